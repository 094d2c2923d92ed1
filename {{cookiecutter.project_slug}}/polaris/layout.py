"""Which nodes of a job, and which cores of a node, each kind of workers has. Standard library only.

"gpu" and "cpu" may share nodes: CPU workers have the last cores next to each GPU, GPU workers the
others. No kind shares nodes with "node" and "mpi".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from . import facts

KINDS = {  # of workers, and what a worker of each has
    "gpu": "a GPU, or a part of one",
    "cpu": "some of a node's cores",
    "node": "a whole node",
    "mpi": "nodes for MPI programs",
}
SHARING = {"gpu", "cpu"}  # kinds that may have the same nodes


class NoRoom(ValueError):
    """Kinds of workers that a job has too few nodes for, in words."""


class Share(NamedTuple):
    """Nodes of a job that one kind has, or several share. first, end: places in the job's list."""

    kinds: tuple[str, ...]
    first: int
    end: int


# --- nodes ----------------------------------------------------------------------------------------
def shares(kinds: Sequence[str], nodes_of_kind: dict[str, int], nodes: int) -> list[Share]:
    """How the nodes of a job are shared out; NoRoom where there are too few.

    nodes_of_kind: {kind: nodes that it has alone}; the other kinds share what is left. MPI programs
    come first: what starts their ranks runs on the first node of the job.
    """
    alone = [kind for kind in kinds if kind in nodes_of_kind]
    alone.sort(key=lambda kind: kind != "mpi")
    others = tuple(kind for kind in kinds if kind not in nodes_of_kind)
    wanted = sum(nodes_of_kind[kind] for kind in alone)
    if wanted + bool(others) > nodes:
        raise NoRoom(_lacking(alone, others, nodes_of_kind, nodes))
    found = []
    place = 0
    if others == ("mpi",):
        found.append(Share(others, 0, nodes - wanted))
        place = nodes - wanted
    for kind in alone:
        found.append(Share((kind,), place, place + nodes_of_kind[kind]))
        place += nodes_of_kind[kind]
    if others and others != ("mpi",):
        found.append(Share(others, place, nodes))
    return found


def _lacking(alone, others, nodes_of_kind, nodes):
    """Whom a job has no nodes for, in words."""
    there = f"{nodes} node{'s' * (nodes != 1)}"
    if not others:
        wanted = " and ".join(f"{nodes_of_kind[kind]} for {kind!r}" for kind in alone)
        return f"too few nodes: {wanted}, of {there}"
    taken = " and ".join(f"{nodes_of_kind[kind]} of them for {kind!r}" for kind in alone)
    without = " and ".join(map(repr, others))
    return f"no node is left for {without}: {there}, {taken}"


def fewest_nodes(kinds: Sequence[str], nodes_of_kind: dict[str, int]) -> int:
    """The smallest job that has nodes for every kind."""
    alone = sum(nodes_of_kind.get(kind, 0) for kind in kinds)
    return alone + any(kind not in nodes_of_kind for kind in kinds)


def share_of(
    kind: str, kinds: Sequence[str], nodes_of_kind: dict[str, int], nodes: Sequence
) -> Sequence:
    """The nodes of a job, of these, that a kind has; NoRoom where there are too few."""
    for share in shares(kinds, nodes_of_kind, len(nodes)):
        if kind in share.kinds:
            return nodes[share.first : share.end]
    raise NoRoom(f"{kind!r} is none of {', '.join(kinds)}")


def are_together(kinds: Sequence[str], nodes_of_kind: dict[str, int]) -> bool:
    """Whether CPU workers have nodes with GPU workers, in a job."""
    sharing = [kind for kind in kinds if kind in SHARING and kind not in nodes_of_kind]
    return len(sharing) == len(SHARING)


# --- cores ----------------------------------------------------------------------------------------
def cores_of_cpu_workers(workers: int, cores: int, together: bool) -> list[list[int]]:
    """The cores of each CPU worker of a node. cores: of each worker.

    together: whether GPU workers are on the node, too: then there are so many `workers`, dealt out
    over the GPUs' neighbourhoods. Else as many as there are cores for.
    """
    if not together:
        number = facts.CORES_PER_NODE // cores
        return [list(range(i * cores, (i + 1) * cores)) for i in range(number)]
    of_each = []
    for worker in range(workers):
        turn, place = divmod(worker, facts.GPUS_PER_NODE)
        mine = facts.CORES_OF_GPU[place]
        end = len(mine) - turn * cores
        of_each.append(list(mine[end - cores : end]))
    return of_each


def most_cpu_workers(cores: int, workers_per_gpu: int) -> int:
    """The most CPU workers that a node has room for beside its GPU workers."""
    free = facts.CORES_PER_GPU - workers_per_gpu
    return facts.GPUS_PER_NODE * (free // cores)
