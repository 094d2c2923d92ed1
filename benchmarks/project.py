"""A generated project with its environment, for the benchmarks; made once, in .bench/."""

import json
import os
import subprocess
import sys
from pathlib import Path

import child

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 590  # seconds for a child


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
        pip(project, "install", *packages)
    return project


def pip(project, what, *packages):
    """Install or uninstall packages in the project's environment."""
    command = [project / ".venv" / "plain" / "bin" / "python", "-m", "pip", what, "-qq"]
    command += ["-y"] if what == "uninstall" else ["--disable-pip-version-check"]
    subprocess.run([*command, *packages], check=True)


def measured(project, script, pbs, *words):
    """Run a script in the project's environment on a login node of the stand-in for PBS.

    Returns (what it printed as JSON behind MEASURED, None where it did not; the end of all it printed).
    """
    (project / "bench_script.py").write_text(script)
    command = f"source activate.sh && exec python bench_script.py {' '.join(map(str, words))}"
    printed, _ = child.run(["bash", "-c", command], project, pbs.env(), LIMIT)
    _, found, rest = printed.partition("MEASURED")
    return (json.loads(rest.split("\n")[0]) if found else None), printed[-1500:]
