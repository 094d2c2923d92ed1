"""What the workers of a node have imported when they start: once, in the process they come from.

Packages alone: what the modules of the project keep (a random generator, an open file, a model) is
each worker's own, so each imports them itself.
"""

from __future__ import annotations

import ast
import gc
import importlib
import os
import random
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .machine import PROJECT

if TYPE_CHECKING:
    from .mailbox import Queue

# Packages that each process has to start by itself, and why.
OWN_START = {
    "mpi4py.MPI": "MPI starts once in each process",
    "jax": "it has threads of its own",
    "tensorflow": "it has threads of its own",
}
WORKER_POOL = "parsl.executors.high_throughput.process_worker_pool"  # Parsl's program for workers
ALWAYS = ("parsl", WORKER_POOL, "polaris.on_worker")
PRELOAD = "POLARIS_PRELOAD"  # variable with the names of packages, of the process they come from
# Those of a module of OpenMP's that are read when it loads, before a worker has its cores.
BINDINGS = ("GOMP_CPU_AFFINITY", "KMP_AFFINITY", "OMP_PLACES", "OMP_PROC_BIND")
DEVICES = "/dev/nvidia"
SPAWNED = "POLARIS_SPAWNED"  # variable of workers that were not forked: why


def packages_of(path: Path, seen: set[Path] | None = None) -> list[str]:
    """The packages that a module of the project's imports as it is loaded, and those it uses.

    What stands in functions is imported when a task calls them.
    """
    seen = set() if seen is None else seen
    if path in seen:
        return []
    seen.add(path)
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []  # whoever imports it hears of that
    found = {}
    for name in _imports(tree):
        own = own_module(name)
        for each in packages_of(own, seen) if own else [name]:
            found[each] = True
    return list(found)


def _imports(node: ast.AST) -> Iterator[str]:
    for part in ast.iter_child_nodes(node):
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(part, ast.If) and _is_never_loaded(part.test):
            continue
        if isinstance(part, ast.Import):
            yield from (alias.name for alias in part.names)
        elif isinstance(part, ast.ImportFrom) and part.module and not part.level:
            yield part.module
        else:
            yield from _imports(part)


def _is_never_loaded(test):
    """Of `if TYPE_CHECKING:` and `if __name__ == "__main__":`."""
    said = ast.unparse(test)
    return said.endswith("TYPE_CHECKING") or said.startswith("__name__ ==")


def own_module(name: str, project: Path = PROJECT) -> Path | None:
    """The file of a module of the project's, or its folder; None for another one."""
    first = name.partition(".")[0]
    folder = project / first
    for path in (project / f"{first}.py", folder / "__init__.py", folder):
        if path.exists():
            return path
    return None


def has_own_start(name: str) -> str | None:
    """Why a package is not imported once for all; None where it is."""
    first = name.partition(".")[0]
    for module, why in OWN_START.items():
        if module.partition(".")[0] == first:
            return why
    return None


def load(preload: list[str]) -> str | None:
    """Import all of it in this process; why no worker may be forked of it, else None."""
    names = [*ALWAYS, *packages_of(PROJECT / "apps.py"), *preload]
    for name in dict.fromkeys(names):
        if own_module(name) and name not in ALWAYS or has_own_start(name):
            continue
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:
            if name in preload:
                said = "".join(traceback.format_exception_only(error)).strip()
                print(f"preload: {name} cannot be imported: {said}", file=sys.stderr, flush=True)
    sys.modules.pop(WORKER_POOL, None)  # it runs as __main__ in each worker: what it uses is there
    return _cannot_be_forked()


# --- whether workers may be forked of this process ------------------------------------------------
def _cannot_be_forked():
    set_by = [name for name in BINDINGS if os.environ.get(name)]
    if set_by:
        return f"{set_by[0]} is set, which a library reads as it loads"
    for module, why in OWN_START.items():
        if module in sys.modules:
            return f"{module} was imported: {why}"
    if _touches_gpus():
        return "a GPU was used as a package was imported"
    threads = _threads()
    if threads > 1:
        started = [each.name for each in threading.enumerate()[1:]]
        return f"{', '.join(started) or 'a package'} runs as a thread since the import"
    kept = _generators()
    if kept:
        return f"a package keeps a random generator, {kept[0]}, that all would share"
    return None


def _touches_gpus():
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith(DEVICES):
                return True
        except OSError:
            continue  # that of the listing itself
    return False


def _threads():
    """How many there are at a fork: those of OpenBLAS end before it, and are started again."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return len(os.listdir("/proc/self/task"))


def _generators():
    """Random generators that live in this process, but for the global ones of the libraries."""
    kinds = (random.Random,)
    usual = [random._inst]
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        kinds += (numpy.RandomState, numpy.Generator)
        usual.append(numpy.mtrand._rand)
    torch = sys.modules.get("torch")
    if torch is not None:
        kinds += (torch.Generator,)
        usual.append(torch.default_generator)
    found = []
    for thing in gc.get_objects():
        kind = type(thing)
        if not issubclass(kind, kinds) or issubclass(kind, random.SystemRandom):
            continue
        if not any(thing is each for each in usual):
            found.append(f"{kind.__module__}.{kind.__name__}")
    return found


def tell(said: Queue) -> None:
    """In a process forked of the server: hand over why it should not have been, or None."""
    from . import fork_server

    said.put(fork_server.why_not)


# --- in each worker -------------------------------------------------------------------------------
def reseed() -> None:
    """Give this process random states of its own: those that it was forked with are everybody's."""
    random.seed()
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.default_generator.seed()
