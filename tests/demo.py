"""`make demo`: bake a starting point with the defaults, set up the project, run its sample on this machine."""

import json
import subprocess
import sys
from pathlib import Path

from cookiecutter.main import cookiecutter

ROOT = Path(__file__).resolve().parent.parent


def main(folder, workload):
    """Bake into `folder` (environment included), run the sample there; returns run.py's status."""
    project = Path(folder).resolve() / f"ising-{workload}"
    print(f"Baking the template into {project}", flush=True)
    cookiecutter(
        str(ROOT),
        no_input=True,
        output_dir=folder,
        overwrite_if_exists=True,  # again: the environment and the results stay
        extra_context={
            "create_venv": "yes",
            "workload": workload,
            "project_name": f"Ising {workload}",
            "project_slug": project.name,
        },
    )
    run = ["bash", "-c", "source activate.sh && python run.py --mode local"]
    status = subprocess.run(run, cwd=project).returncode
    pictures = [str(path) for path in (project / "results").glob("*.png")]
    print(f"The project is {project}; the picture is {', '.join(pictures) or 'none'}")
    return status


if __name__ == "__main__":
    known = json.loads((ROOT / "cookiecutter.json").read_text())["workload"]
    if sys.argv[2] not in known:
        sys.exit(f"make demo WORKLOAD={sys.argv[2]}: the starting points are {', '.join(known)}")
    sys.exit(main(*sys.argv[1:]))
