"""Yours to edit: what one task does. Imported on every worker, so keep the top of it light."""

from pathlib import Path

from parsl import python_app

from polaris.programs import run_in_folder


@python_app
def simulate(temperature: float, size: int, sweeps: int, seed: int) -> dict:
    """An external program in a folder of its own: results/runs/NAME, named by the inputs.

    Args: see ising.py, which is the program here; each is @name@ in the files of templates/, or in
    the command. Returns what `read_log` returns, and `folder`.
    """
    return run_in_folder(
        {"temperature": temperature, "size": size, "sweeps": sweeps, "seed": seed},
        templates="templates",  # these files are put into the folder, rendered
        command=["python", "@project@/ising.py", "in.ising"],  # or ["lmp", "-in", "in.melt"]
        done="Total wall time",  # in the log, beside status 0; Path("final.xyz"): a file
        parse=read_log,
        # keep=["*.restart"],  # files by which a program goes on that was killed
    )


def read_log(path: Path) -> dict:
    """The columns of results.csv: the values that a log has, in lines such as `energy = -1.9`."""
    values = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, equals, value = line.partition(" = ")
        if equals:
            values[name] = value if name == "device" else float(value)
    return values
