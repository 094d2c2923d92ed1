# shellcheck shell=bash disable=SC1090,SC1091
# The environment, every time: you source this file, and so do driver.pbs and every block.
#     source activate.sh
# setup_env.sh makes the environment, once.

conda_version="{{ cookiecutter.conda_version }}" # of the conda module: "default" or a dated one

if [ -z "${BASH_VERSION:-}" ]; then
    echo "activate.sh: this shell is not bash; start one, then again: bash" >&2
    return 1
fi

# The default version of the conda module: as its module files say, else what it was when polaris/facts.py was written.
default_conda() {
    local said
    said=$(command sed -nE 's/^ *module_version\("(conda\/)?([^"]+)", *"default"\).*/\2/p' "$1/conda/.modulerc.lua" 2>/dev/null)
    [ -n "$said" ] || said=$(command sed -nE 's/^CONDA_DEFAULT = "([^"]+)".*/\1/p' "$project/polaris/facts.py")
    printf '%s\n' "${said##*[[:space:]]}"
}

# The base of the environment: the conda module on Polaris, else whatever python3 there is.
# Sets venv to its folder, named after the conda version: a new default never reuses an old one.
polaris_base() {
    local soft=${SOFT_ROOT:-/soft} wanted=conda version=$conda_version tree
    venv=$project/.venv/plain
    [ -d "$soft/modulefiles" ] || return 0
    [ "$version" = default ] || wanted=conda/$version
    # Parsl's submit script is #!/bin/bash without -l: "module" may not be there yet, or know of no modules.
    if ! type module >/dev/null 2>&1 || [ -z "${MODULEPATH:-}" ]; then
        builtin source "${ETC_PROFILE:-/etc/profile}" || :
    fi
    unset CONDA_PREFIX
    if ! { module use "$soft/modulefiles" && module load "$wanted" && conda activate; } >/dev/null 2>&1 ||
        [ ! -x "${CONDA_PREFIX:-}/bin/python" ]; then
        # The module files have failed before (August 2026) while the install tree still worked. The newest tree may be
        # a prototype: it is the one that was asked for, or the default's.
        [ "$version" != default ] || version=$(default_conda "$soft/modulefiles")
        tree=$soft/applications/conda/$version/mconda3
        echo "activate.sh: 'module load $wanted' failed; trying $tree, without the library paths of the module" >&2
        if ! { builtin source "$tree/etc/profile.d/conda.sh" && conda activate; } >/dev/null 2>&1 ||
            [ ! -x "${CONDA_PREFIX:-}/bin/python" ]; then
            echo "activate.sh: no conda: neither 'module load $wanted' nor $tree works; 'module avail conda' lists" \
                "what there is, conda_version in $project/activate.sh says which is used" >&2
            return 1
        fi
    fi
    tree=${CONDA_PREFIX%/*}
    venv=$project/.venv/${tree##*/}
}

# Where temporary files go. PBS's own TMPDIR is too long for the sockets of mpiexec on one node (AF_UNIX path too long),
# and /tmp is the memory of a compute node: a short folder on its SSD, for you alone. start_workers.sh makes it elsewhere.
polaris_tmpdir() {
    local folder
    folder=${LOCAL_SCRATCH:-/local/scratch}/tmp-$(command id -u)
    export TMPDIR=/tmp
    [ -d "${folder%/*}" ] && [ "${#folder}" -le 40 ] || return 0
    command mkdir -m 700 "$folder" 2>/dev/null || :
    [ ! -d "$folder" ] || [ ! -O "$folder" ] || [ -L "$folder" ] || export TMPDIR=$folder
}

polaris_activate() {
    local project venv
    # Whatever cd, pwd and CDPATH are in this shell.
    project=$(CDPATH='' command cd -- "$(command dirname -- "${BASH_SOURCE[0]}")" >/dev/null && command pwd) || return 1
    polaris_base || return 1
    if [ ! -f "$venv/ready" ]; then
        echo "activate.sh: there is no environment in $venv, or half of one; make it: bash $project/setup_env.sh" >&2
        return 1
    fi
    builtin source "$venv/bin/activate" || return 1
    if ! [ "$VIRTUAL_ENV" -ef "$venv" ]; then
        echo "activate.sh: the project was moved, its environment is of $VIRTUAL_ENV: bash $project/setup_env.sh" >&2
        deactivate
        return 1
    fi
    # It is what it says: nothing of ~/.local is in it, and what you install goes into it.
    export PYTHONNOUSERSITE=1 PIP_USER=0
    unset PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON
    polaris_tmpdir
    # PBS starts a job with umask 077; here is the one that setup_env.sh was started with.
    [ "${PBS_ENVIRONMENT:-}" != PBS_BATCH ] || [ ! -s "$venv/ready" ] || umask "$(command cat "$venv/ready")"
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
