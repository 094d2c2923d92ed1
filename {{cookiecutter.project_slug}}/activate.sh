# shellcheck shell=bash disable=SC1090,SC1091
# The environment, every time: you source this file, and so do driver.pbs and every block.
#     source activate.sh
# setup_env.sh makes the environment, once.

conda_version="{{ cookiecutter.conda_version }}" # of the conda module: "default" or a dated one
own_environment="" # the folder of an environment of your own (venv, uv, conda, pixi); "": the one that setup_env.sh makes

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

# An environment of your own: own is its folder, kind what made it (venv, uv, conda or pixi). Else own is "".
polaris_own() {
    local near said
    own=${own_environment:-} kind=''
    [ -n "$own" ] || return 0
    case $own in
        \~ | \~/*) own=$HOME${own#\~} ;;
        /*) ;;
        *) own=$project/${own#./} ;;
    esac
    own=${own%/}
    if [ ! -d "$own" ]; then
        polaris_refuse "there is no such folder"
    elif [ -d "$own/conda-meta" ]; then
        kind=conda
        case $own in */.pixi/envs/*) kind=pixi ;; esac
        [ ! -f "$own/conda-meta/pixi" ] || kind=pixi
    elif [ -f "$own/pyvenv.cfg" ]; then
        kind=venv
        ! command grep -q '^uv *=' "$own/pyvenv.cfg" || kind=uv
    else
        said="it is no environment of venv, uv, conda or pixi: no pyvenv.cfg, no conda-meta"
        for near in .venv .pixi/envs/default; do
            [ ! -x "$own/$near/bin/python" ] || said="$said; is $own/$near meant?"
        done
        polaris_refuse "$said"
    fi || return 1
    if [ -x "$own/bin/python" ]; then
        said=$(PYTHONHOME='' "$own/bin/python" -S -c '
import sys
if sys.version_info < (3, 10):
    print("it has Python %d.%d; 3.10 or later is needed" % sys.version_info[:2])' 2>&1) ||
            said="its Python does not start: ${said##*$'\n'}"
        [ -z "$said" ] || polaris_refuse "$said"
    elif [ -L "$own/bin/python" ]; then
        polaris_refuse "its Python is gone: bin/python leads to $(command readlink "$own/bin/python")"
    else
        polaris_refuse "it is an environment without Python: no bin/python"
    fi
}

polaris_refuse() {
    local line
    line=$(command sed -n '/^own_environment=/=' "$project/activate.sh" | command tail -n 1)
    echo "activate.sh line $line: own_environment = $own: $1" >&2
    return 1
}

# Source what others wrote, which may not bear set -e and set -u.
polaris_source() {
    local polaris_set=$-
    set +eu
    builtin source "$1"
    case $polaris_set in *e*) set -e ;; esac
    case $polaris_set in *u*) set -u ;; esac
}

# As `conda activate FOLDER`, without conda: PATH, CONDA_PREFIX, variables that were set for it, scripts of its packages.
polaris_prefix() {
    local prefix=$1 script scripts i
    if [ "${CONDA_PREFIX:-}" = "$prefix" ]; then # once more: what its scripts keep is put back first
        scripts=("$prefix"/etc/conda/deactivate.d/*.sh)
        for ((i = ${#scripts[@]} - 1; i >= 0; i--)); do
            [ ! -f "${scripts[i]}" ] || polaris_source "${scripts[i]}"
        done
    fi
    case $PATH in
        "$prefix/bin:"*) ;;
        *) PATH=$prefix/bin:$PATH ;;
    esac
    export PATH CONDA_PREFIX=$prefix CONDA_DEFAULT_ENV=$prefix
    [ ! -f "$prefix/conda-meta/state" ] || eval "$("$prefix/bin/python" -S -c '
import json, shlex, sys
with open(sys.argv[1]) as file:
    variables = json.load(file).get("env_vars", {})
for name, value in variables.items():
    if value != "***unset***":
        print(f"export {name}={shlex.quote(str(value))}")' "$prefix/conda-meta/state")"
    for script in "$prefix"/etc/conda/activate.d/*.sh; do
        [ ! -f "$script" ] || polaris_source "$script"
    done
}

# What an environment stands on: the conda module whose Python it has, or a conda environment. Else nothing.
polaris_beneath() {
    local place=$1 modules conda_version
    modules=$(builtin cd -P -- "${SOFT_ROOT:-/soft}/applications/conda" 2>/dev/null && builtin pwd -P)
    place=$(builtin cd -P -- "$place" 2>/dev/null && builtin pwd -P)
    case $place in
        "${modules:-/none}"/*)
            conda_version=${place#"$modules"/}
            conda_version=${conda_version%%/*}
            polaris_base || return 1
            [ ! "$place" -ef "${CONDA_PREFIX:-}" ] || return 0
            ;;
    esac
    [ "$1" = "$own" ] || [ ! -d "$1/conda-meta" ] || polaris_prefix "$1"
}

polaris_own_activate() {
    local home
    unset PYTHONHOME
    if [ "$kind" = conda ] || [ "$kind" = pixi ]; then
        [ "$(builtin type -t deactivate)" != function ] || deactivate
        unset VIRTUAL_ENV VIRTUAL_ENV_PROMPT
        polaris_beneath "$own" || return 1
        polaris_prefix "$own"
        return
    fi
    home=$(command sed -n 's/^home *= *//p' "$own/pyvenv.cfg")
    polaris_beneath "${home%/bin}" || return 1
    if [ ! -f "$own/bin/activate" ]; then
        export VIRTUAL_ENV=$own PATH=$own/bin:$PATH
        return
    fi
    polaris_source "$own/bin/activate"
    if ! [ "${VIRTUAL_ENV:-}" -ef "$own" ]; then
        polaris_refuse "it was moved from $VIRTUAL_ENV, and its programs start with that path: make it anew"
        [ "$(builtin type -t deactivate)" != function ] || deactivate
        return 1
    fi
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

# The environment that setup_env.sh made.
polaris_made() {
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
}

polaris_activate() {
    local project venv own kind noted
    # Whatever cd, pwd and CDPATH are in this shell.
    project=$(CDPATH='' command cd -- "$(command dirname -- "${BASH_SOURCE[0]}")" >/dev/null && command pwd) || return 1
    polaris_own || return 1
    if [ -n "$own" ]; then
        polaris_own_activate || return 1
        noted=$project/.umask
        [ "${PBS_ENVIRONMENT:-}" = PBS_BATCH ] || [ -s "$noted" ] || { umask >"$noted"; } 2>/dev/null || :
    else
        polaris_made || return 1
        noted=$venv/ready
    fi
    # It is what it says: nothing of ~/.local is in it, and what you install goes into it.
    export PYTHONNOUSERSITE=1 PIP_USER=0
    unset PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON
    polaris_tmpdir
    # PBS starts a job with umask 077; here is the one that setup_env.sh was started with.
    if [ "${PBS_ENVIRONMENT:-}" = PBS_BATCH ] && [ -s "$noted" ]; then
        POLARIS_UMASK=$(command cat "$noted")
        umask "$POLARIS_UMASK"
        export POLARIS_UMASK # for start_workers.sh
    fi
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

# setup_env.sh and polaris/prefix.py source this file for its functions alone.
[ "${1:-}" = base-only ] || polaris_activate
