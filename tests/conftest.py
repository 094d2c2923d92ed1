"""What the tests share: the template, bakes, and one project with its environment."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
QUESTIONS = json.loads((ROOT / "cookiecutter.json").read_text())


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    """No test reads or writes the developer's cookiecutter settings, nor leaves bytecode in the template."""
    monkeypatch.setenv("COOKIECUTTER_CONFIG", os.devnull)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")


@pytest.fixture
def bake(cookies):
    """Bake into a new folder, without the environment unless asked; returns pytest-cookies' result."""
    return lambda **answers: cookies.bake(extra_context={"create_venv": "no", **answers})


def run(command, cwd, timeout=300, **options):
    """Run a command, give it back done; its output is text, both streams in stdout."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL, **options}
    return subprocess.run(command, cwd=cwd, text=True, timeout=timeout, **options)


@pytest.fixture(scope="session")
def ready(tmp_path_factory):
    """A project baked with its environment, by the command line as a user does; and what that printed."""
    folder = tmp_path_factory.mktemp("ready")
    project = folder / "ising-sweep"
    baked = run(["cookiecutter", str(ROOT), "--no-input", "create_venv=yes"], folder, env=user_env(folder))
    assert (project / ".venv" / "plain" / "bin" / "python").exists(), baked.stdout
    return project, baked.stdout


@pytest.fixture
def project(ready, bake):
    """A fresh project that shares the environment of `ready`: bake, then run without installing again."""
    return with_environment(ready, bake().project_path)


def with_environment(ready, path):
    """Give a baked project the environment of `ready`."""
    (path / ".venv").symlink_to(ready[0] / ".venv")
    return path


def user_env(home, **extra):
    """The environment of a user whose home is elsewhere and whose shell has no virtual environment."""
    own = os.path.dirname(shutil.which("cookiecutter") or "")
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("PBS", "CONDA", "VIRTUAL_ENV", "PYTHONPATH"))}
    return {**keep, "HOME": str(home), "PATH": f"{own}:{keep['PATH']}", "PWD": str(home), **extra}
