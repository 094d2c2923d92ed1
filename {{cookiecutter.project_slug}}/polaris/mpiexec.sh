#!/bin/bash
# What $PARSL_MPI_PREFIX starts: mpiexec with the options of the task, and with those that an app gives after it; of an
# option given twice the last one counts. Where they say nothing, each rank has hardware threads next to its GPU and as
# many threads in its libraries, and it sees that GPU alone (gpu_affinity.sh).
#     mpiexec.sh [OPTIONS of mpiexec] PROGRAM [ARGUMENTS]

project=$(CDPATH='' command cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)
number='' ppn='' hosts=() depth=${POLARIS_DEPTH:-} bind=${POLARIS_CPU_BIND:-} env=() more=()

while [ $# -gt 0 ] && [[ $1 = -* ]]; do
    name=${1%%=*}
    case $1 in
        --) shift && break ;;
        --*=*) value=${1#*=} words=1 ;;
        *) value=${2:-} words=2 ;;
    esac
    case $name in
        -n | -np | --np) number=$value ;;
        -ppn | --ppn) ppn=$value ;;
        -hosts | --hosts) hosts=(--hosts "$value") ;;
        --hostfile) hosts=(--hostfile "$value") ;;
        -d | --depth) depth=$value ;;
        --cpu-bind) bind=$value ;;
        --env) env+=("$value") ;;
        --wdir | --umask | --mem-bind | --gpu-bind | --rlimits | --pmi | --timeout) more+=("$name" "$value") ;;
        *)
            if [ "$words" = 1 ]; then
                more+=("$1")
            elif [[ $value = -* ]]; then
                more+=("$1") words=1
            else
                echo "mpiexec.sh: $1: write $1=VALUE, or -- before the program if it takes none" >&2
                exit 2
            fi
            ;;
    esac
    shift "$words" || { echo "mpiexec.sh: $name: its value is missing" >&2; exit 2; }
done
if [ $# = 0 ]; then
    echo "mpiexec.sh: no program behind the options: \$PARSL_MPI_PREFIX ./program" >&2
    exit 2
fi

command=(mpiexec -n "$number")
if [ -z "${PBS_JOBID:-}" ]; then
    # The MPI of a laptop knows neither nodes nor the flags of PALS.
    for value in "${env[@]}"; do export "${value?}"; done
else
    for name in ${depth:+${POLARIS_THREAD_VARIABLES:-}}; do
        [[ " ${env[*]}" = *" $name="* ]] || env+=("$name=$depth")
    done
    [ -z "$ppn" ] || command+=(--ppn "$ppn")
    command+=("${hosts[@]}")
    [ -z "$depth" ] || command+=("--depth=$depth")
    [ -z "$bind" ] || command+=(--cpu-bind "$bind")
    for value in "${env[@]}"; do command+=(--env "$value"); done
fi
exec "${command[@]}" "${more[@]}" bash "$project/polaris/gpu_affinity.sh" "$@"
