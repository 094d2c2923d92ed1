"""An environment of the user's own (own_environment in activate.sh): conda, pixi, uv, venv, read-only ones.

No conda is to be had here: its prefix is made of what activate.sh, conda and Parsl look at in one, a Python that
finds its library in it, conda-meta and etc/conda. The packages of all of them are those of `ready`, by a .pth file.
"""

import ctypes
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import copied_python, edit, program, run, summary, tool, user, user_env

TELLS = """
from parsl import python_app

@python_app
def work(x):
    import os, sys
    open(f"made-{x}", "w").close()
    return {"prefix": sys.prefix, "variable": os.environ.get("FROM_STATE", ""), "script": os.environ.get("FROM_SCRIPT", "")}
"""
OUTPUTS = ("prefix", "variable", "script")


def packages_of(ready):
    return next((ready[0] / ".venv" / "plain" / "lib").glob("python3*/site-packages"))


def shares(environment, packages, worker_pool=True):
    """Give an environment the packages that lie elsewhere, and Parsl's program, as pip writes it."""
    library = environment / "lib" / packages.parent.name / "site-packages"
    (library / "shared.pth").write_text(f"{packages}\n")
    if worker_pool:
        name = "process_worker_pool.py"
        _, *lines = (packages.parents[2] / "bin" / name).read_text().splitlines(keepends=True)
        script = environment / "bin" / name
        script.write_text("".join([f"#!{environment}/bin/python\n", *lines]))
        script.chmod(0o755)
    return environment


def conda_prefix(folder, packages, **options):
    copied_python(folder, packages.parent.name)
    (folder / "conda-meta").mkdir()
    (folder / "conda-meta" / "history").write_text("")
    variables = {"FROM_STATE": "it's set", "GONE": "***unset***"}
    (folder / "conda-meta" / "state").write_text(json.dumps({"env_vars": variables}))
    for when, does in (("activate", "+"), ("deactivate", "-")):
        scripts = folder / "etc" / "conda" / f"{when}.d"
        scripts.mkdir(parents=True)
        # As compilers' do it: no thought of set -e and set -u.
        (scripts / "a.sh").write_text(f'false\nexport FROM_SCRIPT="$FROM_SCRIPT{does}a$NOWHERE"\n')
        (scripts / "b.sh").write_text(f'export FROM_SCRIPT="$FROM_SCRIPT{does}b"\n')
    return shares(folder, packages, **options)


def uv_environment(folder, packages, **options):
    made = [tool("uv"), "venv", "--quiet", "--python", os.path.realpath(sys.executable), str(folder)]
    assert run(made, folder.parent).returncode == 0
    return shares(folder, packages, **options)


@pytest.fixture(scope="module")
def conda(ready, tmp_path_factory):
    return conda_prefix(tmp_path_factory.mktemp("conda") / "md", packages_of(ready))


@pytest.fixture(scope="module")
def uv(ready, tmp_path_factory):
    return uv_environment(tmp_path_factory.mktemp("uv") / ".venv", packages_of(ready))


@pytest.fixture
def own(bake):
    """A project that uses an environment of the user's own, as activate.sh has it."""

    def make(given, **answers):
        project = bake(account="MyProj", nodes="2", **answers).project_path
        edit(project, "activate.sh", 'own_environment=""', f'own_environment="{given}"')
        return project

    return make


def bash(script, project, **extra):
    return run(["bash", "-c", script], project, env=user_env(project.parent, **extra))


# --- source activate.sh --------------------------------------------------------------------------
SHOWN = 'echo "$(command -v python) $(command -v process_worker_pool.py)"'


def test_a_conda_environment_is_activated_as_conda_does_it(own, conda):
    """With its variables and scripts, in a shell that bears no mistake, and again in a shell where it is on."""
    project = own(conda)
    env = {"VIRTUAL_ENV": "/else", "PYTHONHOME": "/else", "FROM_SCRIPT": ""}
    more = 'echo "$CONDA_PREFIX ${VIRTUAL_ENV:-} ${PYTHONHOME:-} $FROM_STATE ${GONE:-} $FROM_SCRIPT $-"'
    done = bash(f"set -eu; source activate.sh; {SHOWN}; {more}; source activate.sh; {more}", project, **env)
    where, once, again = done.stdout.splitlines()
    assert where == f"{conda}/bin/python {conda}/bin/process_worker_pool.py", done.stdout
    assert once.startswith(f"{conda}   it's set  +a+b ") and {"e", "u"} <= set(once.split()[-1])
    assert again.split()[3] == "+a+b-b-a+a+b", "what its scripts changed is put back before"


@pytest.mark.slow
@pytest.mark.parametrize("lacks", ["nothing", "bin/activate"])
def test_an_environment_of_uv_is_activated(own, uv, ready, tmp_path, lacks):
    folder = uv
    if lacks != "nothing":
        folder = uv_environment(tmp_path / "bare", packages_of(ready))
        (folder / "bin" / "activate").unlink()
    project = own(folder)
    done = bash(f'set -eu; source activate.sh; source activate.sh; {SHOWN}; echo "$VIRTUAL_ENV"', project)
    assert done.stdout == f"{folder}/bin/python {folder}/bin/process_worker_pool.py\n{folder}\n"


@pytest.mark.parametrize("given", ["~/envs/md", "$HOME/envs/md", "envs/md", "./envs/md/"])
def test_its_folder_is_given_as_anywhere_in_bash(own, conda, given):
    project = own(given)
    place = project if given.startswith(("envs", ".")) else project.parent
    (place / "envs").mkdir()
    (place / "envs" / "md").symlink_to(conda)
    done = bash("source activate.sh; command -v python", project)
    assert done.stdout == f"{place}/envs/md/bin/python\n"


def test_what_is_no_environment_is_refused_by_name(own, ready, conda, tmp_path):
    """One line each: the file, its line, what was given, what is wrong with it."""
    project = own("none")

    def said(given):
        edit(project, "activate.sh", own_environment(project), f'own_environment="{given}"')
        done = bash("source activate.sh; echo status $?", project)
        line, status = done.stdout.splitlines()
        assert status == "status 1"
        where = f"activate.sh line 7: own_environment = {given}: "
        assert line.startswith(where), line
        return line.removeprefix(where)

    def python(folder, text, name="pyvenv.cfg"):
        (folder / "bin").mkdir(parents=True)
        (folder / name).write_text("home = /usr/bin\n")
        (folder / "bin" / "python").write_text(f"#!/bin/sh\n{text}\n")
        (folder / "bin" / "python").chmod(0o755)
        return folder

    assert said(tmp_path / "none") == "there is no such folder"
    (tmp_path / "work" / ".pixi" / "envs").mkdir(parents=True)
    nothing = "it is no environment of venv, uv, conda or pixi: no pyvenv.cfg, no conda-meta"
    assert said(tmp_path / "work") == nothing
    (tmp_path / "work" / ".pixi" / "envs" / "default").symlink_to(conda)
    assert said(tmp_path / "work") == f"{nothing}; is {tmp_path}/work/.pixi/envs/default meant?"
    (tmp_path / "r" / "conda-meta").mkdir(parents=True)
    assert said(tmp_path / "r") == "it is an environment without Python: no bin/python"
    (tmp_path / "r" / "bin").mkdir()
    gone = "/soft/applications/conda/2024-04-29/mconda3/bin/python"
    (tmp_path / "r" / "bin" / "python").symlink_to(gone)
    assert said(tmp_path / "r") == f"its Python is gone: bin/python leads to {gone}"
    broken = python(tmp_path / "broken", "echo libpython3.12.so: no such file >&2; exit 127")
    assert said(broken) == "its Python does not start: libpython3.12.so: no such file"
    old = python(tmp_path / "old", 'echo "it has Python 3.9; 3.10 or later is needed"')  # what it is asked
    assert said(old) == "it has Python 3.9; 3.10 or later is needed"
    uv_environment(tmp_path / "made", packages_of(ready))
    (tmp_path / "made").rename(tmp_path / "moved")
    moved = f"it was moved from {tmp_path}/made, and its programs start with that path: make it anew"
    assert said(tmp_path / "moved") == moved


def own_environment(project):
    lines = (project / "activate.sh").read_text().splitlines()
    return next(line for line in lines if line.startswith("own_environment=")).split(" #")[0]


MODULE = """() {
    case "$1 $2" in
        "use $SOFT_ROOT/modulefiles") ;;
        "load conda/2025-09-25") export OF_MODULE=loaded ;;
        *) echo "Lmod has detected the following error: unknown $*" >&2; return 1 ;;
    esac
}"""
CONDA = '() { [ "$1" = activate ] && export CONDA_PREFIX=$TREE PATH=$TREE/bin:$PATH; }'


@pytest.mark.slow
@pytest.mark.parametrize("own_is", ["on the module", "on a conda environment", "conda"])
def test_what_it_stands_on_is_loaded_as_well(own, conda, ready, tmp_path, own_is):
    """A venv on the conda module's Python needs the libraries of that very module, whatever conda_version says."""
    soft = tmp_path / "soft"
    (soft / "modulefiles").mkdir(parents=True)
    tree = conda_prefix(soft / "applications" / "conda" / "2025-09-25" / "mconda3", packages_of(ready))
    folder = conda
    if own_is != "conda":
        base = tree if own_is == "on the module" else conda
        folder = tmp_path / "on-top"
        made = [base / "bin" / "python", "-m", "venv", "--without-pip", "--system-site-packages", folder]
        assert run(made, tmp_path).returncode == 0
    project = own(folder, conda_version="2026-10-09")
    polaris = {"SOFT_ROOT": str(soft), "MODULEPATH": "/x", "ETC_PROFILE": os.devnull, "TREE": str(tree)}
    functions = {"BASH_FUNC_module%%": MODULE, "BASH_FUNC_conda%%": CONDA}
    script = 'source activate.sh; command -v python; echo "${OF_MODULE:-} $CONDA_PREFIX ${FROM_SCRIPT:-}"'
    done = bash(script, project, **polaris, **functions)
    beneath = {
        "on the module": f"loaded {tree} ",
        "on a conda environment": f" {conda} +a+b",
        "conda": f" {conda} +a+b",
    }
    assert done.stdout == f"{folder}/bin/python\n{beneath[own_is]}\n"


# --- run.py --------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["conda", "uv"])
def test_it_is_checked_and_used_in_every_mode(own, conda, uv, pbs, kind):
    """Tasks have it in each mode, with what activating it sets, and files as readable as the user's umask says."""
    folder = {"conda": conda, "uv": uv}[kind]
    project = own(folder, queue="debug-scaling")
    program(project, TELLS, "x\n1\n", '{"x": int}', OUTPUTS)
    done = user(project, "python run.py --check", pbs)
    assert done.returncode == 0 and "nothing to mend" in done.stdout, done.stdout
    assert f"environment:    {folder} (Python 3" in done.stdout and f"your own, {kind})" in done.stdout
    assert "conda module:   none loaded" in done.stdout
    modes = ("local", "job", "blocks") if kind == "conda" else ("local", "job")
    for mode in modes:
        with open(project / "inputs" / "sweep.csv", "a") as file:
            file.write(f"{len(mode) * 10}\n")
        if mode == "job":
            job = user(project, "qsub driver.pbs", pbs).stdout.strip()
            assert pbs.wait(job, 90)["Exit_status"] == 0
            assert stat.S_IMODE((project / "made-30").stat().st_mode) == 0o644, "PBS's umask is 077"
        else:
            done = user(project, f"python run.py --mode {mode}", pbs)
            assert done.returncode == 0, done.stdout
    rows = summary(project)
    expected = ("it's set", "+a+b") if kind == "conda" else ("", "")
    assert len(rows) == 1 + len(modes)
    assert {row["prefix"] for row in rows} == {str(folder)}
    assert {row["variable"] for row in rows} == {expected[0]}
    assert all(row["script"].endswith(expected[1]) for row in rows)
    assert not [name for name in os.listdir(folder) if name not in MADE], "nothing of ours is put into it"


MADE = "bin lib lib64 conda-meta etc pyvenv.cfg .gitignore .lock CACHEDIR.TAG include share".split()


@pytest.mark.slow
def test_a_library_that_is_links_to_elsewhere_is_no_code_of_the_users(own, conda):
    """As in a view of Spack's, or by uv's link-mode symlink: a run would read all of it for its digest."""
    asked = "import json; from polaris.reading import is_users_file; print(is_users_file(json.__file__))"
    done = user(own(conda), f"python -c '{asked}'")
    assert done.stdout == "False\n"
    asked = asked.replace("json.__file__", '"/home/me/.cache/uv/archive-v0/x/numpy/__init__.py"')
    assert user(own(conda), f"python -c '{asked}'").stdout == "False\n"


@pytest.mark.slow
def test_an_environment_of_uv_starts_from_the_nodes_own_disk(own, uv, pbs, tmp_path):
    project = own(uv)
    program(project, TELLS, "x\n1\n2\n", '{"x": int}', OUTPUTS)
    edit(project, "config.py", "local_environment = False", "local_environment = True")
    (tmp_path / "ssd").mkdir()
    with open(project / "activate.sh", "a") as file:
        file.write(f"export LOCAL_SCRATCH={tmp_path}/ssd\n")
    beside = sorted(os.listdir(uv.parent))
    job = user(project, "qsub driver.pbs", pbs).stdout.strip()
    assert pbs.wait(job, 90)["Exit_status"] == 0
    assert all(row["prefix"].startswith(f"{tmp_path}/ssd/") for row in summary(project))
    assert sorted(os.listdir(uv.parent)) == beside, "it is packed into a file of the project's"


@pytest.mark.slow
def test_check_tells_all_that_is_wrong_with_it_at_once(own, ready, pbs, conda):
    """What it lacks in one line, where no job can read it, what cannot be packed, a foreign mpiexec."""
    folder = Path(f"/dev/shm/own-{os.getpid()}")
    try:
        conda_prefix(folder, packages_of(ready), worker_pool=False)
        library = next(folder.glob("lib/python3*/site-packages"))
        (library / "shared.pth").unlink()
        for name in ("parsl", "dill", "typeguard", "zmq", "pyzmq.libs", "tblib", "psutil", "setproctitle"):
            for entry in packages_of(ready).glob(f"{name}*"):
                (library / entry.name).symlink_to(entry)
        for entry in packages_of(ready).glob("[a-z]*"):
            if not entry.name.startswith(("numpy", "matplotlib", "rich", "__pycache__")):
                if not (library / entry.name).exists():
                    (library / entry.name).symlink_to(entry)
        mpiexec = folder / "bin" / "mpiexec"
        mpiexec.write_text("#!/bin/sh\n")
        mpiexec.chmod(0o755)
        project = own(folder)
        program(project, TELLS, "x\n1\n", '{"x": int}', OUTPUTS)
        edit(project, "config.py", "local_environment = False", "local_environment = True")
        (project / "requirements.txt").write_text("parsl==2026.10.26\nase>=3.2  # mine\n")
        done = user(project, "python run.py --check --mode blocks", pbs)
        place = f"activate.sh line 7: own_environment = {folder}"
        for words in (
            f"WRONG:  {place}: it lacks numpy, matplotlib, rich, ase, bin/process_worker_pool.py: "
            "bash setup_env.sh tells how to mend it",
            f"WRONG:  activate.sh line 7: own_environment = '{folder}': lies below /dev/shm, which every node "
            "has for itself: no job could read it",
            f"local_environment = True: packs what venv and uv make; {place} is of conda, whose files hold",
            f"WRONG:  mpiexec is {mpiexec}, not that of PALS",
        ):
            assert words in done.stdout, done.stdout
        assert done.returncode == 2 and "4 to mend" in done.stdout
        said = user(project, "bash setup_env.sh", pbs).stdout
        assert "it lacks numpy, matplotlib, rich, ase, bin/process_worker_pool.py" in said
        assert f"conda install --yes --prefix {folder} --channel conda-forge numpy matplotlib rich\n" in said
        assert f"    {folder}/bin/python -m pip install 'ase>=3.2'\n" in said
        assert "pip install --no-deps --force-reinstall parsl==2026.10.26\n" in said
        said = user(project, "bash setup_env.sh --install", pbs).stdout
        assert "nothing was installed: conda is not on PATH: conda install --yes" in said
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    "under, asked, lacks", [("home", "eagle", "home"), ("lus/eagle", "home", "eagle"), ("home", "home", "")]
)
def test_a_job_must_ask_for_the_file_system_that_it_lies_on(under, asked, lacks):
    from polaris import checks

    place = f"activate.sh line 7: own_environment = /{under}/me/env"
    given = checks.Settings(filesystems=asked, own_environment=f"/{under}/me/env", own_place=place)
    found = checks.check(given, submitting=True)
    words = [f"{problem.name}: {problem.wrong}; {problem.mend}" for problem in found]
    expected = (
        f"filesystems: leaves out {lacks}, where the environment lies ({place}): a job could not read it"
    )
    assert words == ([f"{expected}; {asked}:{lacks}"] if lacks else [])
    assert under != "home" or not checks.check(given), "a laptop has a /home, too"


@pytest.mark.slow
def test_another_parsl_is_used_where_it_has_what_is_needed(own, ready, uv, tmp_path):
    """Its version is said; one that lacks names that are used is refused, with all that is missing."""
    folder = uv_environment(tmp_path / "env", packages_of(ready))
    library = next(folder.glob("lib/python3*/site-packages"))
    noted = next(packages_of(ready).glob("parsl-*.dist-info"))
    (library / "parsl-2026.9.1.dist-info").mkdir()
    for entry in noted.iterdir():
        if entry.is_file():
            text = entry.read_bytes().replace(b"Version: 2026.10.26", b"Version: 2026.9.1")
            (library / "parsl-2026.9.1.dist-info" / entry.name).write_bytes(text)
    project = own(folder)
    done = user(project, "python run.py --check --mode local")
    assert done.returncode == 0, done.stdout
    has = "it has Parsl 2026.9.1, in which all is found that is used; tested is 2026.10.26"
    assert f"note:  activate.sh line 7: own_environment = {folder}: {has}" in done.stdout
    edit(project, "polaris/parsl_inside.py", "_hold_manager ", "_hold_the_manager ")
    done = user(project, "python run.py --mode local")
    lacks = "it lacks a Parsl that this project knows (Parsl 2026.9.1 lacks"
    assert done.returncode == 2 and lacks in done.stdout and "_hold_the_manager" in done.stdout, done.stdout


def test_without_parsl_a_line_tells_all_that_is_missing(own, ready, tmp_path):
    folder = uv_environment(tmp_path / "bare", packages_of(ready), worker_pool=False)
    next(folder.glob("lib/python3*/site-packages/shared.pth")).unlink()
    done = user(own(folder), "python run.py --check")
    lacks = "it lacks parsl, numpy, matplotlib, rich: bash setup_env.sh tells how to mend it"
    assert done.returncode == 2 and done.stdout.endswith(f"own_environment = {folder}: {lacks}\n"), (
        done.stdout
    )


# --- setup_env.sh --------------------------------------------------------------------------------
@pytest.mark.slow
def test_setup_says_what_is_there_and_installs_what_is_lacking_when_asked(own, ready, tmp_path):
    folder = uv_environment(tmp_path / "env", packages_of(ready), worker_pool=False)
    project = own(folder)
    path = os.pathsep.join([str(Path(tool("uv")).parent), os.environ["PATH"]])
    before = sorted(folder.rglob("*"))
    done = bash("bash setup_env.sh; echo status $?", project, PATH=path)
    for words in (f"own environment: {folder} (uv)", "    python 3", "    parsl 2026.10.26", "    numpy 2"):
        assert words in done.stdout, done.stdout
    install = f"uv pip install --python {folder}/bin/python --no-deps --reinstall parsl==2026.10.26"
    assert f"it lacks bin/process_worker_pool.py\nwhat installs exactly that:\n    {install}\n" in done.stdout
    assert "not usable yet; nothing was installed" in done.stdout and done.stdout.endswith("status 1\n")
    assert sorted(folder.rglob("*")) == before and not (project / ".venv").exists()
    done = bash("bash setup_env.sh --install; echo status $?", project, PATH=path)
    assert f"installing: {install}" in done.stdout and done.stdout.endswith("activate.sh\nstatus 0\n")
    assert (folder / "bin" / "process_worker_pool.py").exists()
    done = bash("bash setup_env.sh && source activate.sh && python run.py --check --mode local", project)
    assert "ready: source activate.sh" in done.stdout and "nothing to mend" in done.stdout, done.stdout
    assert "usage: bash setup_env.sh [--install]" in bash("bash setup_env.sh --instal", project).stdout


def test_what_a_pixi_environment_lacks_goes_through_its_manifest(own, ready, tmp_path):
    folder = conda_prefix(tmp_path / ".pixi" / "envs" / "default", packages_of(ready), worker_pool=False)
    next(folder.glob("lib/python3*/site-packages/shared.pth")).unlink()
    (folder / "conda-meta" / "pixi").write_text(json.dumps({"manifest_path": f"{tmp_path}/pixi.toml"}))
    said = bash("LC_ALL=xx bash setup_env.sh", own(folder)).stdout
    assert f"own environment: {folder} (pixi)\n" in said
    add = f"    pixi add --manifest-path {tmp_path}/pixi.toml "
    assert f"exactly that:\n{add}numpy matplotlib rich\n{add}--pypi parsl==2026.10.26\n" in said


def obeys_modes():
    """Root may write everywhere, unless it gives that up."""
    ctypes.CDLL(None).prctl(24, 1)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE


@pytest.mark.slow
def test_one_that_cannot_be_written_to_gets_another_on_top(own, ready, tmp_path):
    folder = conda_prefix(tmp_path / "theirs", packages_of(ready), worker_pool=False)
    library = next(folder.glob("lib/python3*/site-packages"))
    project = own(folder)
    library.chmod(0o555)
    try:
        env = user_env(tmp_path)
        for flags in ([], ["--install"]):
            done = run(["bash", "setup_env.sh", *flags], project, env=env, preexec_fn=obeys_modes)
            assert done.returncode == 1, done.stdout
            assert "it cannot be written to; a venv on top of it can: " in done.stdout, done.stdout
        make = f"{folder}/bin/python -m venv --system-site-packages {project}/.venv/own"
        assert make in done.stdout and "nothing was installed: activate.sh line 7: " in done.stdout
        subprocess.run([*make.split(), "--without-pip"], check=True)  # quicker; there is one beneath
        edit(project, "activate.sh", own_environment(project), f'own_environment="{project}/.venv/own"')
        done = run(["bash", "setup_env.sh", "--install"], project, env=env, preexec_fn=obeys_modes)
        assert done.returncode == 0 and "installing: " in done.stdout, done.stdout
    finally:
        library.chmod(0o755)
    program(project, TELLS, "x\n1\n", '{"x": int}', OUTPUTS)
    done = user(project, "python run.py --mode local", FROM_SCRIPT="")
    assert done.returncode == 0, done.stdout
    (row,) = summary(project)
    assert row["prefix"] == f"{project}/.venv/own" and row["variable"] == "it's set"
