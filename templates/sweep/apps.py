"""Yours to edit: what one task does. Imported on every worker, so keep the top of it light."""

import os

from parsl import bash_app, python_app


@python_app
{% include "common/lattice.py" %}


@bash_app
def which_gpu(stdout=None, stderr=None):
    """An executable per GPU: the text returned is run by bash, what it prints goes into two files.

    Put your own program here, and call it as run.py says; a status other than 0: the task failed.
    """
    device = "$CUDA_VISIBLE_DEVICES"
    return f'hostname; nvidia-smi -L | grep -e "^GPU {device}:" -e "UUID: {device}"'
