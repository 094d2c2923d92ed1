"""How a peer is run: a script in the project's environment or in one of its own, with the stand-in for PBS or without.

What a script needs of the tools that several scripts share stands here as text: the page's configuration, four
workers or two.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import child
import venvs
from bench import PAGE
from pbs.server import PBS

LIMIT = 300  # seconds for a child
# A thread for each worker's model, whoever runs it; no look at the network.
ALIKE = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "RAY_DEDUP_LOGS": "0",
}
HEAD = """
import json, os, sys, time
begun = time.perf_counter()
begun_at = time.time()
WORKERS, GIVEN = int(sys.argv[1]), json.loads(sys.argv[2])

def told(**figures):
    print("MEASURED", json.dumps(figures), flush=True)

"""
# The page's configuration as `config`, of so many workers; its affinity list has an entry for each.
PAGE_HERE = """
def run(made, folder):
    global config
    config = made

""" + PAGE.replace("available_accelerators=4", "available_accelerators=WORKERS").replace(
    "max_workers_per_node=4", "max_workers_per_node=WORKERS"
).replace(
    '"list:24-31,56-63:16-23,48-55:8-15,40-47:0-7,32-39"',
    '":".join("list:24-31,56-63:16-23,48-55:8-15,40-47:0-7,32-39".split(":")[:WORKERS + 1])',
)
OUR_CONFIG = """
from config import fresh_config
config = fresh_config("local")
"""
# A machine of so many GPUs, as far as mode local can see: it has a worker for each.
NVIDIA_SMI = """#!/bin/sh
for gpu in $(seq 0 {last}); do
    echo "GPU $gpu: NVIDIA A100-SXM4-40GB (UUID: GPU-0000000$gpu-0000-0000-0000-000000000000)"
done
"""
ACTIVATE = """
source {venv}/bin/activate
export PYTHONPATH={folder}:$PYTHONPATH TMPDIR=/tmp
"""


class Way(NamedTuple):
    """A way to do something: its script, and what it needs.

    venv: of venvs.PACKAGES; None: the project's. pbs: whether its workers come from the stand-in for PBS.
    project: whether it runs in the project's folder, whose environment that venv then is.
    """

    script: str
    venv: str | None = None
    pbs: bool = False
    project: bool = True


def one(way, project, module, workers, given, limit=LIMIT):
    """Run a way once: (its figures, None), or ({}, why there are none).

    module: the functions that run on workers, written beside the script as bench_work.py. given: the script's
    own arguments, as JSON.
    """
    if way.venv:
        venv, problem = venvs.ready(way.venv)
        if problem:
            return {}, problem
    with tempfile.TemporaryDirectory() as scratch:
        if way.project:
            folder = with_environment(project, venv) if way.venv else project
        else:
            folder = Path(scratch, "project")
            folder.mkdir()
            (folder / "activate.sh").write_text(ACTIVATE.format(venv=venv, folder=folder))
        for left in ("page-runinfo", "runinfo", "results", "__pycache__"):
            shutil.rmtree(folder / left, ignore_errors=True)
        (folder / "bench_work.py").write_text(module)
        (folder / "bench_peer.py").write_text(way.script)
        line = f"source activate.sh && exec python bench_peer.py {workers} '{json.dumps(given)}'"
        command = ["bash", "-c", line]
        if way.pbs:
            with PBS(scratch, home=scratch, nodes=1, kill_delay=1) as pbs:
                printed, status = child.run(command, folder, pbs.env(**ALIKE), limit)
        else:
            env = {**os.environ, **ALIKE, "PATH": f"{gpus_of(workers, scratch)}:{os.environ['PATH']}"}
            env.pop("CUDA_VISIBLE_DEVICES", None)
            printed, status = child.run(command, folder, env, limit)
    _, found, rest = printed.partition("MEASURED")
    if found:
        return json.loads(rest.split("\n")[0]), None
    if status is None:
        return {}, f"took longer than {limit} s: {printed[-800:]}"
    return {}, f"status {status}: {printed[-1500:]}"


def with_environment(project, venv):
    """A copy of the project whose `own_environment` is that folder."""
    folder = venvs.HOME / f"{venv.name}-project"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns(".venv", "results", "runinfo"))
    activate = (project / "activate.sh").read_text()
    named = activate.replace('own_environment=""', f'own_environment="{venv}"')
    assert named != activate
    (folder / "activate.sh").write_text(named)
    return folder


def gpus_of(number, scratch):
    """A folder with an nvidia-smi that lists so many GPUs."""
    folder = Path(scratch, "bin")
    folder.mkdir()
    (folder / "nvidia-smi").write_text(NVIDIA_SMI.format(last=number - 1))
    (folder / "nvidia-smi").chmod(0o755)
    return folder
