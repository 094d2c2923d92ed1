"""Yours to edit: what is made of a batch. Imported on every worker, so keep the top of it light."""

import functools

from parsl import python_app


@functools.cache
def network():
    """The model of this worker: loaded by its first task, and there for all that follow."""
    import model

    return model.trained(seed=1)


@python_app
def phase(rows: list[dict]) -> list[dict]:
    """How sure the model is that each configuration is of the ordered phase.

    rows: the inputs of a batch, a dict each. Returns as many results, in the same order.
    """
    import model

    spins = [model.spins_of(row["spins"], row["size"]) for row in rows]
    return [{"ordered": sure} for sure in network().ordered(spins)]
