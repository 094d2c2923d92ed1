#!/bin/bash
# Runs a node's worker pool under CUDA MPS (Multi-Process Service): tasks that share a GPU compute at the same
# time on it. Each node of a block runs this (config.py, workers_per_gpu > 1); by ALCF's user guide on MPS.
#     with_mps.sh COMMAND ARGUMENTS...

folder=/tmp/mps-$(id -u)-${PBS_JOBID%%.*}
export CUDA_MPS_PIPE_DIRECTORY=$folder CUDA_MPS_LOG_DIRECTORY=$folder
ask() { echo "$1" | timeout 20 nvidia-cuda-mps-control; }

mkdir -p "$folder"
if ! ask get_server_list >/dev/null 2>&1; then
    # None, or one that was left by a job that PBS started again and that answers no more.
    rm -f "$folder"/*
    CUDA_VISIBLE_DEVICES=0,1,2,3 nvidia-cuda-mps-control -d
fi
if ! ask get_server_list >/dev/null 2>&1; then
    echo "with_mps.sh: no CUDA MPS on $(hostname): tasks that share a GPU take turns on it" >&2
    unset CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY
fi

"$@" &
trap 'kill $!' TERM INT
wait $!
status=$?
[ -z "${CUDA_MPS_PIPE_DIRECTORY:-}" ] || ask quit >/dev/null 2>&1
exit $status
