#!/bin/bash
# ./chain.sh 5 submits driver.pbs five times. Each job is held until the one before it ended with work left over;
# once all is done, or what is left has failed for good, the rest leave the queue by themselves.
# A held job counts as queued: a queue that takes one job of yours (debug) takes no chain.

[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # sh chain.sh
CDPATH='' command cd -- "$(dirname -- "${BASH_SOURCE[0]}")" >/dev/null || exit 2
if ! [[ ${1:-} =~ ^[1-9][0-9]?$ ]]; then
    echo "usage: ./chain.sh JOBS   (1-99; walltime, nodes and queue of each are in driver.pbs)" >&2
    exit 2
fi
# shellcheck source=/dev/null
source ./activate.sh || exit 2
said=$(python run.py --check --jobs "$1") || { grep WRONG <<<"$said" >&2; exit 2; }
after=()
for ((i = 1; i <= $1; i++)); do
    said=$(qsub -v CHAIN=1 "${after[@]}" driver.pbs) || {
        echo "chain.sh: job $i of $1 was refused${after[1]:+; those before it stay: qstat -u $USER}" >&2
        exit 2
    }
    # A site may print notices before the job's id.
    job=$(grep -Ex '[0-9]+\.[A-Za-z0-9_.-]+' <<<"$said" | tail -n 1)
    if [ -z "$job" ]; then
        echo "chain.sh: qsub took job $i of $1 and printed no id of it: $said" >&2
        exit 2
    fi
    echo "$job${after[1]:+ after ${after[1]#depend=afternotok:}}"
    after=(-W "depend=afternotok:$job")
done
