"""setup_env.sh and activate.sh: on a laptop, on Polaris with its conda module, and where something fails."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import ROOT, Terminal, run, tool, user_env

NOWHERE = {
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_RETRIES": "0",
    "PIP_FIND_LINKS": "",
    "PIP_CONFIG_FILE": os.devnull,
}


def bash(script, cwd, **options):
    return run(["bash", "-c", script], cwd, **options)


# --- on a laptop ---------------------------------------------------------------------------------
@pytest.mark.slow
def test_generation_sets_up_the_environment_and_says_what_is_next(ready):
    project, said = ready
    assert "no modules on this machine: a plain environment" in said
    for name in ("python 3", "parsl 2026.10.26", "numpy", "matplotlib", "torch: none"):
        assert f"    {name}" in said
    last = [line.strip() for line in said.splitlines() if line.strip()][-3:]
    assert last == ["cd ising-sweep", "source activate.sh", "python run.py"]


@pytest.mark.slow
def test_running_it_again_does_no_harm(ready):
    project, _ = ready
    stamp = (project / ".venv" / "plain" / "pyvenv.cfg").stat().st_mtime_ns
    done = run(["bash", "setup_env.sh"], project, env=user_env(project.parent))
    assert done.returncode == 0 and "ready: source activate.sh" in done.stdout
    assert (project / ".venv" / "plain" / "pyvenv.cfg").stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_uv_is_used_where_it_is_there(bake, ready, tmp_path):
    project = bake().project_path
    done = run(
        ["bash", "setup_env.sh"],
        project,
        env=user_env(tmp_path, PATH=f"{path_with_uv(tmp_path)}:{os.environ['PATH']}"),
    )
    assert done.returncode == 0, done.stdout
    assert "3/4 uv pip install" in done.stdout and "ready" in done.stdout


def path_with_uv(tmp_path):
    """A folder with uv alone: the tests' own environment has it, the user's PATH does not."""
    folder = tmp_path / "uv"
    folder.mkdir()
    (folder / "uv").symlink_to(Path(sys.executable).with_name("uv"))
    return folder


def test_a_failed_install_keeps_the_project_and_names_the_command_to_repeat(tmp_path):
    done = run([tool("cookiecutter"), str(ROOT), "--no-input"], tmp_path, env=user_env(tmp_path, **NOWHERE))
    project = tmp_path / "ising-sweep"
    assert done.returncode == 0 and (project / "run.py").exists()
    assert "setup_env.sh: the packages could not be installed: ERROR: No matching distribution" in done.stdout
    assert f"  log: {project}/setup_env.log" in done.stdout
    assert f"  again: bash {project}/setup_env.sh" in done.stdout
    assert "bash setup_env.sh && source activate.sh" in done.stdout


def test_half_an_environment_is_not_activated(bake, tmp_path):
    project = bake().project_path
    run(["bash", "setup_env.sh"], project, env=user_env(tmp_path, **NOWHERE))
    assert (project / ".venv" / "plain" / "bin" / "activate").exists()
    done = bash("source activate.sh || echo no", project, env=user_env(tmp_path))
    assert "or half of one; make it: bash" in done.stdout and done.stdout.endswith("no\n")


def test_ctrl_c_while_the_environment_is_made_says_how_to_go_on(bake, tmp_path):
    project = bake().project_path
    terminal = Terminal(["bash", "setup_env.sh"], project, user_env(tmp_path))
    terminal.until("2/4")
    terminal.type("\x03")
    assert terminal.wait(20) == 1
    assert "stopped by Ctrl-C" in terminal.seen and f"again: bash {project}/setup_env.sh" in terminal.seen


def test_an_old_python_is_refused(bake, tmp_path):
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = run(["bash", "setup_env.sh"], bake().project_path, env=user_env(tmp_path, PYTHON=str(old)))
    assert done.returncode == 1
    assert f"Python 3.10 or later is needed, {old} is not" in done.stdout


def test_before_setup_activate_says_what_to_run(bake, tmp_path):
    project = bake().project_path
    done = bash("source activate.sh; echo status $?", project, env=user_env(tmp_path))
    assert f"make it: bash {project}/setup_env.sh" in done.stdout and "status 1" in done.stdout


@pytest.mark.slow
def test_activate_in_any_bash_any_number_of_times(project, tmp_path):
    script = f"""set -e
cd /
source {project}/activate.sh
source {project}/activate.sh
python -c 'import apps, os; print(os.environ["PYTHONPATH"], os.environ["TMPDIR"])'
command -v python process_worker_pool.py"""
    done = bash(script, tmp_path, env=user_env(tmp_path, TMPDIR="/var/tmp/pbs.1.x", PYTHONPATH="/mine"))
    venv = (project / ".venv" / "plain" / "bin").resolve()
    assert done.stdout.split() == [
        f"{project}:/mine",
        "/tmp",
        str(venv / "python"),
        str(venv / "process_worker_pool.py"),
    ]


@pytest.mark.slow
def test_a_moved_project_says_so_and_setup_mends_it(bake, tmp_path):
    env = user_env(tmp_path, **NOWHERE)
    project = bake().project_path
    (project / "requirements-laptop.txt").write_text("")  # nothing to install, so nothing to wait for
    bash("bash setup_env.sh", project, env=env)
    moved = project.rename(project.with_name("moved"))
    said = bash("source activate.sh", moved, env=env).stdout
    assert "the project was moved" in said and f"bash {moved}/setup_env.sh" in said
    bash("bash setup_env.sh", moved, env=env)
    assert bash("source activate.sh && echo good", moved, env=env).stdout == "good\n"


# --- on Polaris ----------------------------------------------------------------------------------
MODULE = """() {
    case "$1 $2" in
        "use $SOFT_ROOT/modulefiles") ;;
        "load conda") . "$SOFT_ROOT/applications/conda/2025-09-25/mconda3/etc/profile.d/conda.sh" ;;
        "load conda/"*) . "$SOFT_ROOT/applications/$2/mconda3/etc/profile.d/conda.sh" ;;
        *) echo "Lmod has detected the following error: unknown $*" >&2; return 1 ;;
    esac
}"""


@pytest.fixture(scope="module")
def soft(ready, tmp_path_factory):
    """/soft as on Polaris: module files, and two install trees whose Python has numpy and matplotlib."""
    root = tmp_path_factory.mktemp("soft")
    (root / "modulefiles").mkdir()
    packages = next((ready[0] / ".venv" / "plain" / "lib").glob("python3*/site-packages"))
    for version in ("2024-04-29", "2025-09-25"):
        tree = root / "applications" / "conda" / version / "mconda3"
        (tree / "bin").mkdir(parents=True)
        lib = tree / "lib" / packages.parent.name
        lib.mkdir(parents=True)
        shutil.copy(os.path.realpath(sys.executable), tree / "bin" / "python")
        (tree / "bin" / "python3").symlink_to("python")
        for entry in Path(sysconfig.get_path("stdlib")).iterdir():
            if entry.name != "site-packages":
                (lib / entry.name).symlink_to(entry)
        (lib / "site-packages").mkdir()
        for name in ("numpy", "numpy.libs", "matplotlib", "mpl_toolkits"):
            for entry in packages.glob(name):
                (lib / "site-packages" / name).symlink_to(entry)
        for name in (
            "pip",
            "contourpy",
            "cycler",
            "kiwisolver",
            "packaging",
            "pyparsing",
            "dateutil",
            "PIL",
            "pillow.libs",
        ):
            for entry in packages.glob(name):
                (lib / "site-packages" / name).symlink_to(entry)
        (tree / "etc" / "profile.d").mkdir(parents=True)
        (tree / "etc" / "profile.d" / "conda.sh").write_text(
            f'conda() {{ [ "$1" = activate ] && export CONDA_PREFIX={tree} PATH={tree}/bin:$PATH; }}\n'
        )
    return root


def polaris(soft, home, **extra):
    return user_env(home, SOFT_ROOT=str(soft), **{"BASH_FUNC_module%%": MODULE, **extra})


@pytest.mark.slow
def test_on_polaris_the_environment_lies_on_the_conda_module_and_is_named_after_it(bake, soft, tmp_path):
    project = bake().project_path
    done = run(["bash", "setup_env.sh"], project, env=polaris(soft, tmp_path))
    assert done.returncode == 0, done.stdout
    assert f"1/4 the conda module: {soft}/applications/conda/2025-09-25/mconda3" in done.stdout
    assert "system-site-packages = true" in (project / ".venv" / "2025-09-25" / "pyvenv.cfg").read_text()
    # numpy is the module's own, not a copy that would part it from its torch.
    assert not list((project / ".venv" / "2025-09-25" / "lib").glob("python3*/site-packages/numpy"))
    shown = bash(
        "source activate.sh && python -c 'import numpy, parsl; print(numpy.__file__)'",
        project,
        env=polaris(soft, tmp_path),
    )
    assert str(soft) in shown.stdout
    # Another version never gets this environment.
    script = project / "activate.sh"
    script.write_text(script.read_text().replace('conda_version="default"', 'conda_version="2024-04-29"'))
    other = bash("source activate.sh", project, env=polaris(soft, tmp_path))
    assert f"there is no environment in {project}/.venv/2024-04-29" in other.stdout


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["the module files fail", "there is no module command"])
def test_where_the_module_fails_the_install_tree_serves(bake, soft, tmp_path, broken):
    project = bake(conda_version="2025-09-25").project_path
    (project / "requirements.txt").write_text("")
    env = polaris(soft, tmp_path, **{"BASH_FUNC_module%%": "() { return 1; }"})
    if broken == "there is no module command":
        del env["BASH_FUNC_module%%"]
    done = run(["bash", "setup_env.sh"], project, env=env)
    tree = soft / "applications" / "conda" / "2025-09-25" / "mconda3"
    assert f"'module load conda/2025-09-25' failed; trying {tree}" in done.stdout
    assert f"1/4 the conda module: {tree}" in done.stdout


@pytest.mark.slow
def test_where_both_fail_it_says_so(bake, soft, tmp_path):
    project = bake(conda_version="2024-04-29").project_path
    env = polaris(tmp_path, tmp_path)
    (tmp_path / "modulefiles").mkdir()
    done = run(["bash", "setup_env.sh"], project, env=env)
    assert done.returncode == 1
    assert "no conda: neither 'module load conda/2024-04-29' nor" in done.stdout
    assert "setup_env.sh: the conda module could not be loaded" in done.stdout
    assert not (project / ".venv").exists()
