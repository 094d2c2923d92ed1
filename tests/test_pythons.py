"""Other Pythons than the tests' own, and torch: a user's machine has what it has."""

import functools
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HEADER, ROOT, results, run, sweep, tool, user, user_env

pytestmark = pytest.mark.slow

STARTS = "import sys, venv, ensurepip; print(*sys.version_info[:2], sys.executable)"
TORCH = "2.13.0"


@functools.cache
def pythons():
    """{minor version: path} of the Pythons here that can make an environment, without the tests' own."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = {}
    for name in [*(f"python3.{n}" for n in range(10, 20)), *sorted(pyenv.glob("versions/*/bin/python3"))]:
        try:  # a shim of pyenv's may have nothing behind it, Debian's Python no ensurepip
            said = run([name, "-c", STARTS], "/", timeout=20, stderr=subprocess.DEVNULL)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if said.returncode == 0:
            major, minor, path = said.stdout.strip().split(" ", 2)
            if major == "3" and int(minor) >= 10 and int(minor) != sys.version_info.minor:
                found.setdefault(int(minor), path)
    return dict(sorted(found.items()))


NONE = pytest.mark.skip(reason="there is no Python from 3.10 on here other than the one that runs the tests")
EACH = [pytest.param(n, path, id=f"3.{n}") for n, path in pythons().items()]


def installed(python, package, env):
    """By uv, which is quicker than pip: that setup_env.sh itself installs by pip is what is tested."""
    had = run([tool("uv"), "pip", "install", "-q", "--python", str(python), package], "/", env=env)
    assert had.returncode == 0, had.stdout


def its_own_tests_pass(project):
    installed(project / ".venv" / "plain" / "bin" / "python", "pytest", user_env(project.parent))
    done = user(project, "python -m pytest -q", timeout=300)
    assert done.returncode == 0 and re.search(r"\d+ passed", done.stdout), done.stdout


@pytest.mark.parametrize("minor, python", EACH or [pytest.param(0, "", marks=NONE, id="none")])
def test_a_project_is_baked_set_up_and_tested_under_each_python(tmp_path, minor, python):
    """Cookiecutter is installed with that Python, so the hooks run under it; then the project does."""
    env = user_env(tmp_path, PYTHON=python)
    own = tmp_path / "cookiecutter"
    run([tool("uv"), "venv", "-q", "--python", python, str(own)], tmp_path, env=env).check_returncode()
    pinned = re.search(r"^cookiecutter==\S+", (ROOT / "requirements.txt").read_text(), re.M).group()
    installed(own / "bin" / "python", pinned, env)
    command = [str(own / "bin" / "cookiecutter"), str(ROOT), "--no-input", "create_venv=yes"]
    said = run(command, tmp_path, env=env, timeout=600)
    assert said.returncode == 0 and "ready: source activate.sh" in said.stdout, said.stdout
    assert f"    python 3.{minor}." in said.stdout

    project = tmp_path / "ising-sweep"
    shown = user(project, "python -c 'import sys; print(sys.prefix, *sys.version_info[:2])'")
    assert shown.stdout.split() == [str(project / ".venv" / "plain"), "3", str(minor)]
    its_own_tests_pass(project)
    sweep(project, 4)
    done = user(project, "python run.py --mode local")
    assert done.returncode == 0 and "4 of 4 tasks done" in done.stdout, done.stdout
    assert [row["status"] for row in results(project)] == ["done"] * 4
    checked = user(project, "python run.py --check")
    assert checked.returncode == 0 and "nothing to mend" in checked.stdout, checked.stdout


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason=f"torch {TORCH} is pinned for Python 3.11")
def test_the_sample_computes_with_torch_where_it_is_there(bake, tmp_path):
    """pip install torch, nothing else: setup lists it, the sample takes it, and the physics is as before."""
    project = bake().project_path
    env = user_env(tmp_path, PYTHON=sys.executable)
    made = run(["bash", "setup_env.sh"], project, env=env)
    assert made.returncode == 0 and "torch: none, so the sample" in made.stdout, made.stdout
    try:  # exec, and TMPDIR: what the time limit ends is pip itself, and what it leaves goes with the project
        had = user(project, f"TMPDIR=$HOME exec python -m pip install -q torch=={TORCH}", timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip(f"torch {TORCH} cannot be had here within 60 s")
    if had.returncode != 0:
        pytest.skip(f"torch {TORCH} cannot be had here: {had.stdout.strip()[-200:]}")

    again = run(["bash", "setup_env.sh"], project, env=env)
    assert again.returncode == 0, again.stdout
    assert re.search(rf"^    torch {re.escape(TORCH)}(\+\w+)?$", again.stdout, re.M), again.stdout
    rows = [f"{t},16,2000,1\n" for t in (1.6, 1.8, 2.0, 3.0)]
    (project / "inputs" / "sweep.csv").write_text(HEADER + "".join(rows))
    done = user(project, "python run.py --mode local")
    assert done.returncode == 0 and "4 of 4 tasks done" in done.stdout, done.stdout
    found = {float(row["temperature"]): float(row["magnetization"]) for row in results(project)}
    assert [row["device"] for row in results(project)] == ["CPU (torch)"] * 4
    for t in (1.6, 1.8, 2.0):  # Onsager's, below 2.269
        assert abs(found[t] - (1 - math.sinh(2 / t) ** -4) ** (1 / 8)) < 0.03, found
    assert found[3.0] < 0.3, found  # of a lattice this small
    its_own_tests_pass(project)
