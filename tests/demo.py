"""`make demo`: bake the template with its defaults, set up the project, run the sweep on this machine."""

import subprocess
import sys
from pathlib import Path

from cookiecutter.main import cookiecutter

ROOT = Path(__file__).resolve().parent.parent


def main(folder):
    """Bake into `folder` (environment included), run the sweep there; returns run.py's status."""
    project = Path(folder).resolve() / "ising-sweep"
    print(f"Baking the template into {project}", flush=True)
    cookiecutter(
        str(ROOT),
        no_input=True,
        output_dir=folder,
        overwrite_if_exists=True,  # again: the environment and the results stay
        extra_context={"create_venv": "yes"},
    )
    run = ["bash", "-c", "source activate.sh && python run.py --mode local"]
    status = subprocess.run(run, cwd=project).returncode
    print(f"The project is {project}; the picture is {project / 'results' / 'magnetization.png'}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
