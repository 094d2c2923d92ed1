# make demo: the main job, on a bare machine with Python, make and git. make test: all tests. Each sets itself up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := .demo

.PHONY: demo test test-fast faults lint clean

demo: $(VENV)/ready
	$(BIN)/python tests/demo.py $(DEMO)

test: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-fast: $(VENV)/ready
	$(BIN)/python -m pytest -m "not slow"

faults: $(VENV)/ready
	$(BIN)/python -m pytest tests/test_faults.py

lint: $(VENV)/ready
	$(BIN)/ruff check hooks tests
	$(BIN)/ruff format --check hooks tests

$(VENV)/ready: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or later is needed: make PYTHON=...") if sys.version_info < (3, 10) else 0'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

clean:
	rm -rf $(VENV) $(DEMO) .cache
