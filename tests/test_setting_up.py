"""setup_env.sh and activate.sh: on a laptop, on Polaris with its conda module, and where something fails."""

import os
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Terminal, copied_python, edit, run, sweep, tool, user_env

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
    old.write_text("#!/bin/sh\nexit 3\n")  # what it is asked to leave with
    old.chmod(0o755)
    done = run(["bash", "setup_env.sh"], bake().project_path, env=user_env(tmp_path, PYTHON=str(old)))
    assert done.returncode == 1
    assert f"Python 3.10 or later is needed, {old} is not" in done.stdout


def test_a_python_that_does_not_start_is_no_old_one(bake, tmp_path):
    broken = tmp_path / "python3"
    broken.write_text("#!/bin/sh\necho no such library >&2\nexit 127\n")
    broken.chmod(0o755)
    done = run(["bash", "setup_env.sh"], bake().project_path, env=user_env(tmp_path, PYTHON=str(broken)))
    assert done.returncode == 1 and f"{broken} does not start: no such library: PYTHON=" in done.stdout


def test_aliases_of_an_interactive_shell_do_not_reach_into_activate(bake, ready, tmp_path):
    project = bake().project_path
    (project / ".venv").symlink_to(ready[0] / ".venv")
    edit(project, "activate.sh", "/local/scratch", f"{tmp_path}/none/scratch")
    (tmp_path / "rc").write_text(
        "alias mkdir='mkdir -pv' source='echo no' cat='cat -n' sed='sed -n' id='id -un' cd='echo'\n"
    )
    script = f'\\source {project}/activate.sh; echo "TMPDIR $TMPDIR, $(command -v python)"\n'
    done = run(
        ["bash", "--rcfile", str(tmp_path / "rc"), "-i"],
        tmp_path,
        stdin=None,
        input=script,
        env=user_env(tmp_path),
    )
    venv = (project / ".venv" / "plain").resolve()
    assert f"TMPDIR /tmp, {venv}/bin/python" in done.stdout, done.stdout
    assert not (tmp_path / "none").exists()


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
    edit(project, "setup_env.sh", "installed() {", "installed() { return 0;")
    bash("bash setup_env.sh", project, env=env)
    moved = project.rename(project.with_name("moved"))
    said = bash("source activate.sh", moved, env=env).stdout
    assert "the project was moved" in said and f"bash {moved}/setup_env.sh" in said
    left = bash('source activate.sh 2>/dev/null; echo "${VIRTUAL_ENV:-none}"', moved, env=env).stdout
    assert left == "none\n", "the other project's environment is not left on"
    bash("bash setup_env.sh", moved, env=env)
    assert bash("source activate.sh && echo good", moved, env=env).stdout == "good\n"


# --- on Polaris ----------------------------------------------------------------------------------
MODULE = """() {
    [ -n "$MODULEPATH" ] || return 0
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
    (root / "modulefiles" / "conda").mkdir()
    (root / "modulefiles" / "conda" / ".modulerc.lua").write_text(
        'module_version("conda/2025-09-25", "default")\n-- module_version("conda/2026-10-09", "default")\n'
        'hide_version("conda/2026-11-17")\n'
    )
    for version in ("2025-09-25", "2026-10-09", "2026-11-17"):
        tree = root / "applications" / "conda" / version / "mconda3"
        of_its_own = copied_python(tree, packages.parent.name)
        for name in ("numpy", "numpy.libs", "matplotlib", "mpl_toolkits"):
            for entry in packages.glob(name):
                (of_its_own / name).symlink_to(entry)
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
                (of_its_own / name).symlink_to(entry)
        (tree / "etc" / "profile.d").mkdir(parents=True)
        (tree / "etc" / "profile.d" / "conda.sh").write_text(
            f'conda() {{ [ "$1" = activate ] && export CONDA_PREFIX={tree} PATH={tree}/bin:$PATH; }}\n'
        )
    return root


def polaris(soft, home, **extra):
    here = {"SOFT_ROOT": str(soft), "MODULEPATH": "/usr/share/modulefiles", "ETC_PROFILE": os.devnull}
    return user_env(home, **{**here, "BASH_FUNC_module%%": MODULE, **extra})


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
    script.write_text(script.read_text().replace('conda_version="default"', 'conda_version="2026-10-09"'))
    other = bash("source activate.sh", project, env=polaris(soft, tmp_path))
    assert f"there is no environment in {project}/.venv/2026-10-09" in other.stdout


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["the module files fail", "there is no module command"])
@pytest.mark.parametrize("asked", ["default", "2026-10-09", "2026-11-17"])
def test_where_the_module_fails_the_install_tree_serves(bake, soft, tmp_path, broken, asked):
    """Of the version that was asked for; else of the default, although the newest tree is another."""
    project = bake(conda_version=asked).project_path
    env = polaris(soft, tmp_path, **{"BASH_FUNC_module%%": "() { return 1; }"})
    if broken == "there is no module command":
        del env["BASH_FUNC_module%%"]
    script = 'project=$PWD; source ./activate.sh base-only; polaris_base; echo "$? $CONDA_PREFIX $venv"'
    done = bash(script, project, env=env)
    version = "2025-09-25" if asked == "default" else asked
    tree = soft / "applications" / "conda" / version / "mconda3"
    wanted = "conda" if asked == "default" else f"conda/{asked}"
    assert (
        f"'module load {wanted}' failed; trying {tree}, without the library paths of the module"
        in done.stdout
    )
    assert done.stdout.endswith(f"0 {tree} {project}/.venv/{version}\n")


@pytest.mark.parametrize("says", ["nothing", "another default", "a default of two forms"])
def test_the_default_version_of_conda_is_what_the_module_files_say(bake, tmp_path, says):
    project = bake().project_path
    (tmp_path / "conda").mkdir()
    files = {
        "another default": '-- module_version("conda/2025-09-25", "default")\nmodule_version("conda/2026-10-09", "default")\n',
        "a default of two forms": '  module_version("2026-10-09","default") -- since October\n',
    }
    if says in files:
        (tmp_path / "conda" / ".modulerc.lua").write_text(files[says])
    done = bash(
        f"project=$PWD; source ./activate.sh base-only; default_conda {tmp_path}",
        project,
        env=user_env(tmp_path),
    )
    assert done.stdout == ("2026-10-09\n" if says in files else "2025-09-25\n")


def test_a_module_command_that_knows_no_modules_is_told_of_them(bake, soft, tmp_path):
    """Where only Lmod's init was sourced, MODULEPATH is empty, and `module load` does nothing, silently."""
    project = bake().project_path
    profile = tmp_path / "profile"
    profile.write_text("export MODULEPATH=/usr/share/modulefiles\n")
    env = polaris(soft, tmp_path, ETC_PROFILE=str(profile), MODULEPATH="")
    script = 'set -e; project=$PWD; source ./activate.sh base-only; polaris_base; echo "$CONDA_PREFIX"'
    assert bash(script, project, env=env).stdout == f"{soft}/applications/conda/2025-09-25/mconda3\n"


@pytest.mark.slow
def test_where_both_fail_it_says_so(bake, soft, tmp_path):
    project = bake(conda_version="2024-04-29").project_path  # deleted in 2026
    env = polaris(tmp_path, tmp_path)
    (tmp_path / "modulefiles").mkdir()
    done = run(["bash", "setup_env.sh"], project, env=env)
    assert done.returncode == 1
    assert "no conda: neither 'module load conda/2024-04-29' nor" in done.stdout
    assert (
        f"works; 'module avail conda' lists what there is, conda_version in {project}/activate.sh"
        in done.stdout
    )
    assert "setup_env.sh: the conda module could not be loaded" in done.stdout
    assert not (project / ".venv").exists()


# --- what lies in the user's home ----------------------------------------------------------------
HOSTILE = {  # settings of pip's that send packages elsewhere, or nowhere
    "packages of ~/.local": {},
    "user = true in pip.conf": {"pip.conf": "user = true\n[install]\nuser = true\n"},
    "target and no-deps in pip.conf": {"pip.conf": "[install]\ntarget = {home}/elsewhere\nno-deps = true\n"},
    "PIP_TARGET and PIP_REQUIRE_VIRTUALENV": {
        "PIP_TARGET": "{home}/elsewhere",
        "PIP_REQUIRE_VIRTUALENV": "1",
    },
    "PIP_PREFIX, PIP_USER and PIP_DRY_RUN": {
        "PIP_PREFIX": "{home}/elsewhere",
        "PIP_USER": "1",
        "PIP_DRY_RUN": "1",
    },
    "the conda module has this very Parsl": {},
}


@pytest.mark.slow
@pytest.mark.parametrize("home_has", HOSTILE)
def test_the_environment_is_what_it_says_whatever_lies_in_the_users_home(
    bake, soft, ready, tmp_path, home_has
):
    """On Polaris, where it lies on the conda module's packages and ~/.local would be seen through it."""
    project, home = bake(account="MyProj").project_path, tmp_path / "home"
    packages = next((ready[0] / ".venv" / "plain" / "lib").glob("python3*/site-packages"))
    local = home / ".local" / "lib" / packages.parent.name / "site-packages"
    if "conda" in home_has:
        local = soft / "applications/conda/2025-09-25/mconda3/lib" / packages.parent.name / "site-packages"
    local.mkdir(parents=True, exist_ok=True)
    added = [
        local / path.name
        for name in ("parsl", "rich", "typeguard", "dill")
        for path in packages.glob(f"{name}*")
    ]
    for path in added:
        path.symlink_to(packages / path.name)
    extra = {name: value.format(home=home) for name, value in HOSTILE[home_has].items()}
    if "pip.conf" in extra:
        (home / ".config" / "pip").mkdir(parents=True)
        own = [line for line in pip_config() if "=" in line]  # where this machine's packages come from
        (home / ".config" / "pip" / "pip.conf").write_text(
            "[global]\n" + "".join(own) + extra.pop("pip.conf")
        )
    env = polaris(soft, home, **extra)
    try:
        done = run(["bash", "setup_env.sh"], project, env=env)
        assert done.returncode == 0 and "ready: source activate.sh" in done.stdout, done.stdout
        venv = project / ".venv" / "2025-09-25"
        script = "source activate.sh && python -c 'import parsl, rich; print(parsl.__file__)' && python run.py --check"
        if "target" not in home_has:  # in a shell of the user's, pip.conf's is theirs to use
            script += " && python -m pip install --quiet sortedcontainers==2.4.0"
        shown = bash(script, project, env=env)
        assert shown.returncode == 0 and "nothing to mend" in shown.stdout, shown.stdout
        assert shown.stdout.startswith(str(venv))
        assert not (home / "elsewhere").exists()
        sweep(project, 4)
        done = bash("source activate.sh && python run.py --mode local", project, env=env)
        assert "4 of 4 tasks done" in done.stdout, done.stdout
        if home_has == "packages of ~/.local":
            (venv / "bin" / "process_worker_pool.py").unlink()  # as 0.1's set-up left it
            for command in ("--check", "--mode local"):
                said = bash(f"source activate.sh && python run.py {command}", project, env=env)
                lacks = f"{venv}/bin has no process_worker_pool.py, which starts workers: bash setup_env.sh"
                assert said.returncode == 2 and lacks in said.stdout, said.stdout
            assert run(["bash", "setup_env.sh"], project, env=env).returncode == 0
            assert (venv / "bin" / "process_worker_pool.py").exists()
            (module,) = venv.glob(
                "lib/python3*/site-packages/parsl/executors/high_throughput/process_worker_pool.py"
            )
            module.unlink()  # it may be a link to what other environments have
            module.write_text("import nowhere\n")
            said = bash("source activate.sh && python run.py --check", project, env=env)
            assert (
                "WRONG:  workers cannot be started: ModuleNotFoundError: No module named 'nowhere'"
                in said.stdout
            )
    finally:
        for path in added:
            path.unlink()


def pip_config():
    """The lines of this machine's pip.conf files, each with its end."""
    places = (
        "/etc/pip.conf",
        os.path.expanduser("~/.config/pip/pip.conf"),
        os.path.expanduser("~/.pip/pip.conf"),
    )
    return [line for place in places if os.path.exists(place) for line in open(place)]
