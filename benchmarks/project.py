"""A generated project with its environment, for the benchmarks; made once, in .bench/."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def ready(*packages, folder=".bench"):
    """Bake the template as it is now into a folder here, keep its environment, add packages; returns its path."""
    folder = ROOT / folder
    project = folder / "ising-sweep"
    folder.mkdir(parents=True, exist_ok=True)
    cookiecutter = Path(sys.executable).with_name("cookiecutter")
    env = {**os.environ, "COOKIECUTTER_CONFIG": os.devnull, "PYTHONDONTWRITEBYTECODE": "1"}
    bake = [cookiecutter, ROOT, "--no-input", "--overwrite-if-exists", "create_venv=yes"]
    subprocess.run(bake, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)
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
