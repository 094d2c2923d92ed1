"""A generated project with its environment, for the benchmarks; made once, in .bench/."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".bench"


def ready(*packages):
    """Bake the template as it is now into .bench/, keep its environment, add packages; returns its path."""
    project = FOLDER / "ising-sweep"
    FOLDER.mkdir(exist_ok=True)
    cookiecutter = Path(sys.executable).with_name("cookiecutter")
    env = {**os.environ, "COOKIECUTTER_CONFIG": os.devnull, "PYTHONDONTWRITEBYTECODE": "1"}
    bake = [cookiecutter, ROOT, "--no-input", "--overwrite-if-exists", "create_venv=yes"]
    subprocess.run(bake, cwd=FOLDER, env=env, check=True, stdout=subprocess.DEVNULL)
    if packages:
        pip = [
            project / ".venv/plain/bin/python",
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
        ]
        subprocess.run([*pip, *packages], check=True)
    return project
