# shellcheck shell=bash disable=SC1090,SC1091
# The environment, every time: you source this file, and so do driver.pbs and every block.
#     source activate.sh
# setup_env.sh makes the environment, once.

conda_version="{{ cookiecutter.conda_version }}" # of the conda module: "default" or a dated one

# The base of the environment: the conda module on Polaris, else whatever python3 there is.
# Sets venv to its folder, named after the conda version: a new default never reuses an old one.
polaris_base() {
    local soft=${SOFT_ROOT:-/soft} wanted=conda tree
    venv=$project/.venv/plain
    [ -d "$soft/modulefiles" ] || return 0
    [ "$conda_version" = default ] || wanted=conda/$conda_version
    # Parsl's submit script is #!/bin/bash without -l: "module" may not be there yet.
    type module >/dev/null 2>&1 || source /etc/profile
    unset CONDA_PREFIX
    if ! { module use "$soft/modulefiles" && module load "$wanted" && conda activate; } >/dev/null 2>&1 ||
        [ ! -x "${CONDA_PREFIX:-}/bin/python" ]; then
        # The module files have failed before (August 2026) while the install tree still worked.
        tree=$(printf '%s\n' "$soft"/applications/conda/20*/mconda3 | tail -n 1)
        [ "$conda_version" = default ] || tree=$soft/applications/conda/$conda_version/mconda3
        echo "activate.sh: 'module load $wanted' failed; trying $tree" >&2
        if ! { source "$tree/etc/profile.d/conda.sh" && conda activate; } >/dev/null 2>&1 ||
            [ ! -x "${CONDA_PREFIX:-}/bin/python" ]; then
            echo "activate.sh: no conda: neither 'module load $wanted' nor $tree works" >&2
            return 1
        fi
    fi
    venv=$project/.venv/$(basename "$(dirname "$CONDA_PREFIX")")
}

polaris_activate() {
    local project venv
    project=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || return 1
    polaris_base || return 1
    if [ ! -f "$venv/ready" ]; then
        echo "activate.sh: there is no environment in $venv, or half of one; make it: bash $project/setup_env.sh" >&2
        return 1
    fi
    source "$venv/bin/activate" || return 1
    if ! [ "$VIRTUAL_ENV" -ef "$venv" ]; then
        echo "activate.sh: the project was moved, its environment is of $VIRTUAL_ENV: bash $project/setup_env.sh" >&2
        return 1
    fi
    # PBS's own TMPDIR is too long for the sockets of mpiexec on one node (AF_UNIX path too long).
    export TMPDIR=/tmp
    # Workers import apps.py from here: their own working folder is not on Python's path.
    case ":${PYTHONPATH:-}:" in
        *":$project:"*) ;;
        *) export PYTHONPATH=$project${PYTHONPATH:+:$PYTHONPATH} ;;
    esac
    # qsub, in a driver job that submits blocks.
    case ":$PATH:" in
        *:/opt/pbs/bin:*) ;;
        *) [ ! -d /opt/pbs/bin ] || export PATH=$PATH:/opt/pbs/bin ;;
    esac
}

# setup_env.sh sources this file for polaris_base alone.
[ "${1:-}" = base-only ] || polaris_activate
