"""What local_environment saves on a slow file system: `.venv/bin/python benchmarks/slow_files.py`, five minutes.

A block of one node on the tests' stand-in for PBS, the environment where it lies or unpacked by the node; a
library between the programs and the C library (LD_PRELOAD, needs cc) makes every open, stat and opendir below
.venv/ take longer, as a file system that many nodes ask at once does. Prints the median seconds from qsub to the
start of the first task. Where shared objects are loaded is not delayed, nor is reading: the real cost is larger.
The node's SSD is this machine's memory (/dev/shm).
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests")]

from pbs.server import PBS  # noqa: E402
from project import measured, pip, ready  # noqa: E402

FROM_CONDA = "numpy matplotlib pillow fonttools contourpy kiwisolver"  # on Polaris they are not in the venv
DELAYS = (0.0, 0.3, 1.0, 3.0)  # milliseconds
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void wait_for(const char *path) {
    const char *below = getenv("SLOW_BELOW"), *us = getenv("SLOW_US");
    if (!path || !below || !us || strncmp(path, below, strlen(below))) return;
    struct timespec pause = {0, 1000L * atol(us)};
    nanosleep(&pause, 0);
}
#define REAL(name) static void *real; if (!real) real = dlsym(RTLD_NEXT, #name)
#define OPEN(name) int name(const char *path, int flags, ...) { \
    va_list more; va_start(more, flags); int mode = va_arg(more, int); va_end(more); \
    REAL(name); wait_for(path); return ((int (*)(const char *, int, int))real)(path, flags, mode); }
#define OPENAT(name) int name(int at, const char *path, int flags, ...) { \
    va_list more; va_start(more, flags); int mode = va_arg(more, int); va_end(more); \
    REAL(name); wait_for(path); return ((int (*)(int, const char *, int, int))real)(at, path, flags, mode); }
#define STAT(name) int name(const char *path, void *what) { \
    REAL(name); wait_for(path); return ((int (*)(const char *, void *))real)(path, what); }
#define STATAT(name) int name(int at, const char *path, void *what, int flags) { \
    REAL(name); wait_for(path); return ((int (*)(int, const char *, void *, int))real)(at, path, what, flags); }
#define POINTER(name) void *name(const char *path, const char *mode) { \
    REAL(name); wait_for(path); return ((void *(*)(const char *, const char *))real)(path, mode); }
OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64)
STAT(stat) STAT(stat64) STAT(lstat) STAT(lstat64) STATAT(fstatat) STATAT(fstatat64)
POINTER(fopen) POINTER(fopen64)
void *opendir(const char *path) { REAL(opendir); wait_for(path); return ((void *(*)(const char *))real)(path); }
"""
CHILD = """
import json, os, sys, time
import parsl
import config
config.account, config.queue, config.nodes_per_block = "MyProj", "preemptable", 1
config.local_environment = sys.argv[1] == "unpacked"

@parsl.python_app
def begun():
    import sys, time
    return time.time(), sys.prefix

parsl.load(config.fresh_config("blocks"))
print("MEASURED", json.dumps(begun().result()), flush=True)
os._exit(0)
"""


def one(project, way, delay):
    """Seconds from qsub to the start of the first task. way: "shared" or "unpacked"; delay: milliseconds."""
    shutil.rmtree(project / "runinfo", ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder, PBS(folder, home=folder, nodes=1, kill_delay=1) as pbs:
        scratch = Path(tempfile.mkdtemp(dir="/dev/shm"))
        text = f"export LOCAL_SCRATCH={scratch} SLOW_BELOW={project}/.venv/ SLOW_US={round(1000 * delay)}\n"
        if delay:
            text += f"export LD_PRELOAD={project.parent}/slow.so\n"
        (project / "activate.sh").write_text((project / "activate.plain").read_text() + text)
        figures, printed = measured(project, CHILD, pbs, way)
        shutil.rmtree(scratch)
        (submitted,) = [when for command, _, when in pbs.calls() if command == "qsub"]
    began, prefix = figures or sys.exit(printed)
    assert prefix.startswith(str(scratch)) == (way == "unpacked"), prefix
    return began - submitted


def main(rounds=3):
    project = ready(folder=".bench/slow")
    pip(project, "uninstall", *FROM_CONDA.split())
    if shutil.which("cc") is None:
        sys.exit("no cc on this machine, which compiles the delay")
    source = project.parent / "slow.c"
    source.write_text(SHIM)
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-o", source.with_suffix(".so"), source, "-ldl"], check=True
    )
    shutil.copy(project / "activate.sh", project / "activate.plain")
    try:
        one(project, "unpacked", 0)  # packs it, and reads all files once
        packed = (project / ".venv" / "plain.tar.gz").stat().st_size
        print(f"the environment: packed {packed / 1e6:.0f} MB")
        print(
            f"{'ms an open or stat':>18} {'where it lies, s':>17} {'unpacked, s':>12} {'ratio (of each round)':>22}"
        )
        for delay in DELAYS:
            pairs = [[one(project, way, delay) for way in ("shared", "unpacked")] for _ in range(rounds)]
            ratios = [local / shared for shared, local in pairs]
            shared, local = (statistics.median(taken) for taken in zip(*pairs, strict=True))
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
            print(f"{delay:18.1f} {shared:17.1f} {local:12.1f} {spread:>22}", flush=True)
    finally:
        shutil.move(project / "activate.plain", project / "activate.sh")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
