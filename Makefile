# make demo: the main job, on a bare machine with Python, make and git. make test: all tests. Each sets itself up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := .demo
# The starting point that make demo shows: sweep, inference, program, mpi, stages or steering.
WORKLOAD ?= sweep

.PHONY: demo test test-fast faults bench screenshots lint browser clean

demo: $(VENV)/ready
	$(BIN)/python tests/demo.py $(DEMO) $(WORKLOAD)

test: $(VENV)/ready browser
	$(BIN)/python -m pytest -n 3 --dist worksteal

test-fast: $(VENV)/ready
	$(BIN)/python -m pytest -m "not slow"

faults: $(VENV)/ready
	$(BIN)/python -m pytest -m fault

bench: $(VENV)/ready
	$(BIN)/python benchmarks/bench.py

screenshots: $(VENV)/ready browser
	SCREENSHOTS=1 $(BIN)/python -m pytest tests/test_looking.py -k "browser"

lint: $(VENV)/ready
	$(BIN)/ruff check benchmarks hooks tests
	$(BIN)/ruff format --check benchmarks hooks tests

# Chromium or Chrome, for the test that looks at the report; where it cannot be had, that test is skipped.
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } || \
	  echo "no Chromium or Chrome: the report will not be looked at"

$(VENV)/ready: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or later is needed: make PYTHON=...") if sys.version_info < (3, 10) else 0'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

clean:
	rm -rf $(VENV) $(DEMO) .bench .cache
