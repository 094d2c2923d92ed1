"""What the tests share: the template, bakes, and one project with its environment."""

import codecs
import csv
import fcntl
import json
import os
import pickle
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import termios
import textwrap
import time
from pathlib import Path

import jinja2
import pytest
from cookiecutter.environment import StrictEnvironment
from pbs.server import PBS

ROOT = Path(__file__).resolve().parent.parent
BEGUN = time.time()
QUESTIONS = json.loads((ROOT / "cookiecutter.json").read_text())


class Compiled(jinja2.BytecodeCache):
    """What Jinja compiled of a file's text: a bake has ninety files, most the same as in the bake before."""

    def __init__(self):
        self.code = {}

    def load_bytecode(self, bucket):
        if bucket.key + bucket.checksum in self.code:
            bucket.bytecode_from_string(self.code[bucket.key + bucket.checksum])

    def dump_bytecode(self, bucket):
        self.code[bucket.key + bucket.checksum] = bucket.bytecode_to_string()


@pytest.fixture(scope="session", autouse=True)
def compiled_once():
    """Bakes of this process share what Jinja compiled."""
    compiled = Compiled()
    make = StrictEnvironment.__init__

    def made(self, **given):
        make(self, **given)
        self.bytecode_cache = compiled

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StrictEnvironment, "__init__", made)
        yield


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    """No test reads or writes the developer's cookiecutter settings, nor leaves bytecode in the template."""
    monkeypatch.setenv("COOKIECUTTER_CONFIG", os.devnull)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")


@pytest.fixture
def bake(cookies):
    """Bake into a new folder, without the environment unless asked; returns pytest-cookies' result."""
    return lambda **answers: cookies.bake(extra_context={"create_venv": "no", **answers})


def tool(name):
    """A command of the tests' own environment, which is not on the user's PATH."""
    return str(Path(sys.executable).with_name(name))


def run(command, cwd, timeout=300, **options):
    """Run a command, give it back done; its output is text, both streams in stdout."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL, **options}
    return subprocess.run(command, cwd=cwd, text=True, timeout=timeout, **options)


@pytest.fixture(scope="session")
def ready(tmp_path_factory):
    """A project baked with its environment, by the command line as a user does; and what that printed."""
    folder = tmp_path_factory.mktemp("ready")
    project = folder / "ising-sweep"
    baked = run(
        [tool("cookiecutter"), str(ROOT), "--no-input", "create_venv=yes"], folder, env=user_env(folder)
    )
    python = project / ".venv" / "plain" / "bin" / "python"
    assert python.exists(), baked.stdout
    # As a user's second run finds it. By the text and not by the time, since tests edit files within a second.
    run([python, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "polaris"], project)
    return project, baked.stdout


@pytest.fixture
def project(ready, bake):
    """A fresh project that shares the environment of `ready`: bake, then run without installing again."""
    return with_environment(ready, bake().project_path)


def with_environment(ready, path):
    """Give a baked project the environment of `ready`, and what Python compiled of polaris/, the same in all."""
    (path / ".venv").symlink_to(ready[0] / ".venv")
    shutil.copytree(ready[0] / "polaris" / "__pycache__", path / "polaris" / "__pycache__")
    return path


def user_env(home, **extra):
    """The environment of a user whose home is elsewhere and whose shell has no virtual environment."""
    keep = {
        k: v for k, v in os.environ.items() if not k.startswith(("PBS", "CONDA", "VIRTUAL_ENV", "PYTHONPATH"))
    }
    return {**keep, "HOME": str(home), "PWD": str(home), **extra}


# --- runs ----------------------------------------------------------------------------------------
HEADER = "temperature,size,sweeps,seed\n"


def sweep(project, rows, size=16, sweeps=60):
    """Write a small input of that many rows; returns it as a list of temperatures."""
    temperatures = [round(1.5 + 0.01 * i, 2) for i in range(rows)]
    lines = [f"{t},{size},{sweeps},1\n" for t in temperatures]
    (project / "inputs" / "sweep.csv").write_text(HEADER + "".join(lines))
    return temperatures


def edit(project, file, old, new):
    path = project / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def results(project, name="results.csv"):
    """The rows of a CSV file among the results, as dicts of text."""
    with open(project / "results" / name, newline="") as file:
        return list(csv.DictReader(file))


def starts_locally(project, scratch, program):
    """local_environment = True, nodes whose SSD is that folder, and tasks that tell which environment they have."""
    edit(project, "config.py", "local_environment = False", "local_environment = True")
    edit(project, program, '"device": device', '"device": __import__("sys").prefix')
    with open(project / "activate.sh", "a") as file:
        file.write(f"export LOCAL_SCRATCH={scratch}\n")


def runs_an_executable(project, app):
    """Make run.py of what its comments say for a program of the user's own, started by that bash app."""
    row = "{row['temperature']}-{row['seed']}"
    first = "**row" if app == "which_gpu" else "row['temperature']"
    given = "" if app == "which_gpu" else f"{first}, "
    (project / "run.py").write_text(
        textwrap.dedent(f"""
        import sys
        from polaris import cli
        from polaris.sources import table
        import apps

        inputs = table("inputs/sweep.csv", temperature=float, size=int, sweeps=int, seed=int)


        def task(row):
            name = f"{{cli.PROJECT}}/results/output/{row}"
            return apps.{app}({given}stdout=(f"{{name}}.out", "w"), stderr=(f"{{name}}.err", "w"))


        def main(run):
            run.map(task, inputs, outputs=())


        if __name__ == "__main__":
            sys.exit(cli.main(main, inputs))
        """)
    )


PROGRAM = """
import pickle
import sys

from polaris import cli
from polaris.sources import table
import apps

inputs = table("inputs/sweep.csv", **{inputs})


def task(row):
{task}


def main(run):
    results = run.map({work}, inputs, outputs={outputs})
    with open("summary.pkl", "wb") as file:
        pickle.dump(list(results), file, 5)


if __name__ == "__main__":
    sys.exit(cli.main(main, inputs))
"""
USUAL = "return apps.work(**row)"


def program(project, apps, table, inputs, outputs=("value",), task=USUAL):
    """Write a program of a scientist's own: apps.py, the input as text, and run.py of its columns and task.

    inputs, outputs: the names with their kinds, as a user types them. task: the body of a function of a row;
    the usual one leaves it away, and gives run.map the app.
    """
    (project / "apps.py").write_text(textwrap.dedent(apps), encoding="utf-8")
    (project / "inputs" / "sweep.csv").write_bytes(table.encode())
    work = "apps.work" if task == USUAL else "task"
    task = textwrap.indent(textwrap.dedent(task).strip(), "    ")
    (project / "run.py").write_text(
        PROGRAM.format(inputs=inputs, outputs=outputs, task=task, work=work), encoding="utf-8"
    )


def summary(project):
    """What summarize was given by the last run: a list of dicts."""
    path = project / "summary.pkl"
    rows = pickle.loads(path.read_bytes())
    path.unlink()
    return rows


def user(project, script, pbs=None, timeout=120, **extra):
    """What a user types in the project's folder, in a shell that sourced activate.sh."""
    env = pbs.env(**extra) if pbs else user_env(project.parent, **extra)
    return run(["bash", "-c", f"source activate.sh && {script}"], project, timeout=timeout, env=env)


class Terminal:
    """A command on a terminal of its own, as a user has it: Ctrl-C reaches every process in the foreground."""

    def __init__(self, command, cwd, env):
        def on_the_terminal():
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored in what a script runs in the background

        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=on_the_terminal,
        )  # fmt: skip
        os.close(slave)
        self.seen = ""
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a read may end within a character

    def until(self, words, timeout=60):
        """Read until the words (a regex) were shown, or the command ended.

        Returns what was shown to the end of the words: the last read may go on into the next drawing.
        """
        deadline = time.monotonic() + timeout
        while not (found := re.search(words, self.seen)):
            assert time.monotonic() < deadline, (
                f"{words!r} was not shown in {timeout} s:\n{self.seen[-2000:]}"
            )
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.seen += self.decoder.decode(os.read(self.master, 65536))
                except OSError:  # the other side is closed
                    break
        return self.seen[: found.end()] if found else self.seen

    def type(self, text):
        os.write(self.master, text.encode())

    def wait(self, timeout=60):
        """Read to the end; returns the exit status."""
        self.until("\0", timeout)
        return self.process.wait(timeout)

    def hang_up(self):
        """The ssh connection drops."""
        os.close(self.master)


NOTE = """
def note(*words):
    with open("LEDGER", "a") as file:
        file.write("-".join(map(str, words)) + " ")
"""  # of an app of a test: that it ran; LEDGER is replaced by a path


def nothing_left(server, seconds=10):
    """Nothing that belonged to a job of the stand-in is alive any more, or soon will be."""
    deadline = time.monotonic() + seconds
    while server.leftovers() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert server.leftovers() == []


def copied_python(folder, library):
    """A Python of its own in a folder, its standard library linked; returns its site-packages, empty.

    library: lib/python3.11 or the like, the name of its last part.
    """
    (folder / "bin").mkdir(parents=True)
    shutil.copy(os.path.realpath(sys.executable), folder / "bin" / "python")
    (folder / "bin" / "python3").symlink_to("python")
    packages = folder / "lib" / library / "site-packages"
    packages.mkdir(parents=True)
    for entry in Path(sysconfig.get_path("stdlib")).iterdir():
        if entry.name != "site-packages":
            (packages.parent / entry.name).symlink_to(entry)
    return packages


@pytest.fixture
def pbs(tmp_path):
    """A login node with the stand-in for PBS; at the end nothing that belonged to a job may be alive."""
    with PBS(tmp_path, home=tmp_path, kill_delay=2) as server:
        yield server
        nothing_left(server)


@pytest.fixture
def polaris(ready, bake):
    """A project with an account, 2 nodes, and the environment of `ready`: it may go to PBS."""

    def make(**answers):
        baked = bake(**{"account": "MyProj", "nodes": "2", **answers})
        return with_environment(ready, baked.project_path)

    return make


def pytest_configure():
    """As on a terminal: nohup, or a script's background, has the programs of the tests ignore these."""
    for number, usual in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_sessionfinish(session):
    """What became of the rows under all faults is summed up, whichever process injected them: nothing is lost."""
    import faults

    faults.write_down()
    if not hasattr(session.config, "workerinput") and faults.sum_up():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    """`make faults` and `make test` end with the sums of the fault table."""
    for said in sorted((ROOT / ".cache").glob("faults*.txt"), reverse=True):
        if said.stat().st_mtime > BEGUN:
            terminalreporter.write_line(said.read_text().strip())
