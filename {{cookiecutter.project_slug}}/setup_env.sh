#!/bin/bash
# Make the environment, or mend it, once: `bash setup_env.sh`. Running it again does no harm.
# PYTHON=/path/to/python3 chooses the Python of an environment without the conda module.
# With own_environment in activate.sh it says what is there and what that lacks; `--install` installs what is lacking.
# shellcheck disable=SC1091

[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # sh setup_env.sh
set +o posix
project=$(CDPATH='' command cd -- "$(dirname -- "${BASH_SOURCE[0]}")" >/dev/null && pwd) || exit 1
log=$project/setup_env.log

say() { printf '%s\n' "$*" | tee -a "$log"; }
fail() {
    say "setup_env.sh: $1"
    say "  log: $log"
    say "  again: bash $project/setup_env.sh"
    exit 1
}

case $* in
    '' | --install) ;;
    *) echo "usage: bash setup_env.sh [--install]   (--install: into own_environment of activate.sh)" >&2; exit 2 ;;
esac
: >"$log" || exit 1
trap 'echo; fail "stopped by Ctrl-C"' INT
# What these name belongs to some other environment; ~/.local belongs to all of them. Proxies stay.
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV
export PYTHONNOUSERSITE=1
# Compute nodes reach the internet through ALCF's proxy alone.
[ -z "${PBS_JOBID:-}" ] || export http_proxy=${http_proxy:-http://proxy.alcf.anl.gov:3128}
[ -z "${http_proxy:-}" ] || export https_proxy=${https_proxy:-$http_proxy}

venv='' own='' # set by polaris_base and polaris_own
source "$project/activate.sh" base-only

# An environment of the user's own: what it has and lacks. Nothing is put into it unasked.
look() {
    python -m polaris.prefix 2>&1 | tee -a "$log"
    return "${PIPESTATUS[0]}"
}
own_one() {
    local commands command
    source "$project/activate.sh" 2> >(tee -a "$log" >&2) || fail "own_environment cannot be used"
    [ "${PBS_ENVIRONMENT:-}" = PBS_BATCH ] || umask >"$project/.umask" # jobs start with PBS's: activate.sh sets this one
    ! look || return 0
    if [ "$1" != --install ]; then
        say "not usable yet; nothing was installed, it is yours. To have that done: bash $project/setup_env.sh --install"
        exit 1
    fi
    commands=$(python -m polaris.prefix --commands 2>>"$log") || fail "nothing was installed: $(tail -n 1 "$log")"
    while read -r command; do
        say "installing: $command"
        bash -c "$command" </dev/null >>"$log" 2>&1 || fail "that failed: $(tail -n 1 "$log")"
    done <<<"$commands"
    look || fail "it was installed, and the environment still lacks something"
}
polaris_own 2> >(tee -a "$log" >&2) || fail "own_environment cannot be used"
if [ -n "$own" ]; then
    own_one "${1:-}"
    say "ready: source activate.sh"
    exit
fi

# 1. The base, as on ALCF's page: module use, module load conda, conda activate.
polaris_base 2> >(tee -a "$log" >&2) || fail "the conda module could not be loaded"
if [ "$venv" = "$project/.venv/plain" ]; then
    say "1/4 no modules on this machine: a plain environment, without the conda module"
    base=${PYTHON:-${CONDA_PREFIX:+$CONDA_PREFIX/bin/python}}
    base=${base:-$(command -v python3)} || fail "there is no python3 on PATH"
    site=() requirements=requirements-laptop.txt
else
    say "1/4 the conda module: $CONDA_PREFIX"
    base=$CONDA_PREFIX/bin/python
    site=(--system-site-packages) requirements=requirements.txt
fi
"$base" -c 'import sys; sys.exit(3 * (sys.version_info < (3, 10)))' 2>>"$log"
case $? in
    0) ;;
    3) fail "Python 3.10 or later is needed, $base is not: PYTHON=/path/to/python3 bash setup_env.sh" ;;
    *) fail "$base does not start: $(tail -n 1 "$log"): PYTHON=/path/to/python3 bash setup_env.sh" ;;
esac

# 2. The virtual environment on top of it.
say "2/4 the environment: $venv"
if ! "$venv/bin/python" -c '' 2>/dev/null || ! (source "$venv/bin/activate" && [ "$VIRTUAL_ENV" -ef "$venv" ]); then
    "$base" -m venv --clear --prompt "$(basename "$project")" "${site[@]}" "$venv" >>"$log" 2>&1 || fail "python -m venv failed: $(tail -n 1 "$log")"
fi

# 3. Parsl and what the project needs, in the versions that were tested together.
# Of the user's settings of pip (pip.conf, PIP_*) those that say where packages come from; pip.conf may say user = true.
settings=$("$venv/bin/python" -m pip config list 2>>"$log") || fail "pip cannot read its settings: $(tail -n 1 "$log")"
settings=$("$venv/bin/python" - "$settings" <<'EOF'
import ast, shlex, sys

FROM = """index-url extra-index-url find-links no-index trusted-host cert client-cert proxy timeout default-timeout
    retries cache-dir no-cache-dir keyring-provider""".split()
found = {}
lines = [line.partition("=") for line in sys.argv[1].splitlines()]
for section in ("global", "install", ":env:"):  # of several the last one counts
    for name, _, value in lines:
        if name.startswith(f"{section}.") and name.removeprefix(f"{section}.") in FROM:
            found[name.removeprefix(f"{section}.")] = ast.literal_eval(value)
for name, value in found.items():
    print(f"export PIP_{name.upper().replace('-', '_')}={shlex.quote(value)}")
EOF
) || fail "pip's settings cannot be read: $(tail -n 1 "$log")"
unset "${!PIP_@}"
eval "$settings"
export PIP_CONFIG_FILE=/dev/null PIP_DISABLE_PIP_VERSION_CHECK=1

install() {
    say "3/4 ${1##*/} ${*:2} -r $requirements"
    "$@" -r "$project/$requirements" 2>&1 | tee -a "$log" |
        sed -nE 's/^(Collecting |Processing [^ ]*\/| \+ )([A-Za-z0-9_.]+([=-]=?[0-9][A-Za-z0-9_.]*)?).*/    \2/p; s/^Installing .*/    installing them/p'
    [ "${PIPESTATUS[0]}" = 0 ]
}
# Blocks start Parsl's program by this name, and its Python must be the environment's.
installed() { [ -x "$venv/bin/process_worker_pool.py" ] && "$venv/bin/python" -c 'import parsl' 2>>"$log"; }

pip=("$venv/bin/python" -m pip install)
if ! uv=$(command -v uv) || ! install "$uv" pip install --python "$venv/bin/python" || ! installed; then
    install "${pip[@]}" ||
        fail "the packages could not be installed: $(grep -iE 'error|no matching|failed' "$log" | tail -n 1)"
fi
# The conda module has a Parsl of its own: where it is this very version, pip left it at that.
if ! installed; then
    install "${pip[@]}" --force-reinstall --no-deps
    installed || fail "Parsl is not in $venv, wherever pip put it: $(tail -n 1 "$log")"
fi

# Jobs start with PBS's umask: activate.sh sets this one.
if [ "${PBS_ENVIRONMENT:-}" = PBS_BATCH ] && [ -s "$venv/ready" ]; then
    touch "$venv/ready"
else
    umask >"$venv/ready"
fi

# 4. What came of it.
source "$project/activate.sh" 2> >(tee -a "$log" >&2) || fail "the environment does not load"
say "4/4 what it has:"
python - "$venv" 2>&1 <<'EOF' | tee -a "$log"
import importlib, sys

print(f"    python {sys.version.split()[0]}")
for name in ("parsl", "numpy", "matplotlib", "torch"):
    try:
        module = importlib.import_module(name)
        print(f"    {name} {module.__version__}")
    except Exception as error:  # such as a library of CUDA's that is not there
        if name != "torch":
            sys.exit(f"    {name}: {error}")
        print("    torch: none, so the sample computes with numpy")
        if not sys.argv[1].endswith("/plain"):
            print(f"    the conda module should have torch: {error}")
EOF
[ "${PIPESTATUS[0]}" = 0 ] || fail "the environment lacks a package it needs: $(tail -n 1 "$log")"
say "ready: source activate.sh"
