#!/bin/bash
# Between mpiexec and the program: local rank i has GPU 3 - i, the one next to the cores that it is bound to
# (ALCF user guide, Polaris). With more than four ranks a node, ranks i, i + 4, ... share a GPU. Where
# CUDA_VISIBLE_DEVICES is set, the ranks share those alone.

# As in activate.sh, which ran on the first node of the block alone.
[ -z "${TMPDIR:-}" ] || mkdir -m 700 "$TMPDIR" 2>/dev/null || [ -d "$TMPDIR" ] || export TMPDIR=/tmp

gpus=()
if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then
    IFS=, read -ra given <<<"$CUDA_VISIBLE_DEVICES"
    for gpu in "${given[@]}"; do
        [[ $gpu =~ ^\ *([0-9]+|GPU-.+|MIG-.+)$ ]] || break # CUDA, too, takes none from the first wrong one on
        gpus+=("$gpu")
    done
else
    mapfile -t gpus < <(nvidia-smi -L 2>/dev/null | sed -nE 's/^GPU ([0-9]+):.*/\1/p')
fi
rank=${PMI_LOCAL_RANK:-${MPI_LOCALRANKID:-0}} number=${#gpus[@]}
[ "$number" = 0 ] || export CUDA_VISIBLE_DEVICES=${gpus[number - 1 - rank % number]}
exec "$@"
