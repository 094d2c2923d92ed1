"""Yours to edit: what each stage does. Imported on every worker, so keep the top of it light.

An app is for the first kind of workers in config.py, which have GPUs here, unless it names another
one: executors=["cpu"], executors=["node"].
cache=True: a call that has ended is not made again by a later run, as long as its arguments, and
the code of its app and of your modules that it uses, are the same.
"""

from parsl import python_app


@python_app(cache=True)
def simulate(temperature: float, size: int, sweeps: int, seed: int):
    """The first stage, on a GPU: lattices of the 2D Ising model at one temperature.

    Returns a numpy array (measurements, 2, 16 lattices), see ising.py.
    """
    import ising

    return ising.fluctuations(temperature, size, sweeps, seed)


@python_app(executors=["cpu"], cache=True)
def analyse(series, temperature: float, size: int) -> dict:
    """The second stage, on a core: means of each lattice, without the fifth in which it settles.

    series: what `simulate` returns. Returns a dict: temperature, size, and lists with a mean of
    each lattice: uniform (square of the magnetization), wave (of its longest wave).
    """
    settled = series[len(series) // 5 :]
    uniform, wave = settled.mean(0)
    return {
        "temperature": temperature,
        "size": size,
        "uniform": uniform.tolist(),
        "wave": wave.tolist(),
    }


@python_app(executors=["node"], cache=True)
def fit(inputs=()) -> dict:
    """The last stage, fan-in, on a whole node: T_c from all that `analyse` returned."""
    import analysis

    return analysis.critical_temperature(inputs)
