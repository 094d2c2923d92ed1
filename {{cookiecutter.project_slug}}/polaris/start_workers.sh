#!/bin/bash
# Every node of a block runs this (config.py, launch_cmd): it starts the node's worker pool in the project's folder, where
# tasks find their files. With WITH_MPS=1 under CUDA MPS (Multi-Process Service), by ALCF's user guide on it: tasks that
# share a GPU compute at the same time on it.
#     start_workers.sh COMMAND ARGUMENTS...

command cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null || exit 1
export PYTHONUNBUFFERED=1 # what a task prints is kept, however its worker ends
# As in activate.sh, which ran on the first node of the block alone.
[ -z "${TMPDIR:-}" ] || mkdir -m 700 "$TMPDIR" 2>/dev/null || [ -d "$TMPDIR" ] || export TMPDIR=/tmp
[ -z "${POLARIS_UMASK:-}" ] || umask "$POLARIS_UMASK"
[ "${WITH_MPS:-}" = 1 ] || exec "$@"

folder=${TMPDIR:-/tmp}/mps-$(id -u)-${PBS_JOBID%%.*}
export CUDA_MPS_PIPE_DIRECTORY=$folder CUDA_MPS_LOG_DIRECTORY=$folder
ask() { echo "$1" | timeout 20 nvidia-cuda-mps-control; }
mkdir -m 700 "$folder" 2>/dev/null
mine() { [ -d "$folder" ] && [ -O "$folder" ] && [ ! -L "$folder" ]; } # /tmp is everybody's

if mine && ! ask get_server_list >/dev/null 2>&1; then
    # None, or one that was left by a job that PBS started again and that answers no more.
    rm -f "$folder"/*
    CUDA_VISIBLE_DEVICES=0,1,2,3 nvidia-cuda-mps-control -d
fi
if ! mine || ! ask get_server_list >/dev/null 2>&1; then
    echo "start_workers.sh: no CUDA MPS on $(hostname): tasks that share a GPU take turns on it" >&2
    unset CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY
fi

"$@" &
trap 'kill $!' TERM INT
wait $!
status=$?
[ -z "${CUDA_MPS_PIPE_DIRECTORY:-}" ] || ask quit >/dev/null 2>&1
exit $status
