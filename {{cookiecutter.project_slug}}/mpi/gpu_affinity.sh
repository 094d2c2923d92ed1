#!/bin/bash
# Between mpiexec and the program: local rank i has GPU 3 - i, the one next to the cores that it is bound to
# (ALCF user guide, Polaris). With more than four ranks a node, ranks i, i + 4, ... share a GPU.
gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU')
rank=${PMI_LOCAL_RANK:-${MPI_LOCALRANKID:-0}}
[ "$gpus" = 0 ] || export CUDA_VISIBLE_DEVICES=$((gpus - 1 - rank % gpus))
exec "$@"
