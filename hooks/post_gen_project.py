"""After the files are written: check the answers, create the virtual environment, say what is next.

Runs under cookiecutter's own Python with the new project as working folder.
"""

import sys

sys.path.pop(0)  # the folder of this script, a shared /tmp: what lies there must not be imported

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

answers = json.loads(r"""{{ cookiecutter | tojson }}""")
project = Path.cwd()
QUESTIONS = {"nodes_per_block": "nodes"}  # where config.py has another name for a question


def refusals():
    """What the project's own checks find in the answers, one line each, and the mends."""
    sys.dont_write_bytecode = True  # no __pycache__ in a new project
    sys.path.insert(0, str(project))
    from polaris import checks, facts

    same = ("project_slug", "account", "queue", "walltime", "filesystems", "conda_version", "workers_per_gpu")
    given = {name: answers[name] for name in same}
    found = checks.check(
        checks.Settings(
            **given,
            nodes_per_block=answers["nodes"],
            project_dir=str(project),
        )
    )
    lines, mends = [], {}
    for problem in found:
        name = QUESTIONS.get(problem.name, problem.name)
        if problem.name == "account" and not problem.fatal:
            continue  # the placeholder: decided later, and said below
        line = f"{name}={problem.given}: {problem.wrong}"
        print(f"note: {line}", file=sys.stderr) if not problem.fatal else lines.append(line)
        if problem.fatal:
            mends.setdefault(name, problem.mend or "...")
    return lines, mends, answers["account"].upper() == facts.PLACEHOLDER


def again(mends):
    """The command that asks for the same project with the mends."""
    defaults = json.loads(r"""{{ (_cookiecutter if _cookiecutter is defined else {}) | tojson }}""")
    template = answers.get("_template", ".")
    beside = os.path.join(os.path.dirname(sys.executable), "cookiecutter")
    command = ["cookiecutter" if shutil.which("cookiecutter") else beside, template]
    if "_output_dir" not in answers:
        command = ["cruft", "create", template]
    if answers.get("_checkout"):
        command += ["--checkout", answers["_checkout"]]
    if mends.pop("project_dir", None):
        command += ["--output-dir", "/another/folder"]
    elif answers.get("_output_dir") not in (None, os.environ.get("PWD")):
        command += ["--output-dir", answers["_output_dir"]]
    if "_output_dir" not in answers:
        return " ".join(map(shlex.quote, command))
    values = {name: value for name, value in answers.items() if name in defaults}
    return " ".join(
        map(shlex.quote, [*command, "--no-input", *(f"{k}={v}" for k, v in {**values, **mends}.items())])
    )


def create_venv():
    """Run setup_env.sh, which says itself what failed; returns whether the environment is there."""
    environment = dict(os.environ)
    if sys.prefix != sys.base_prefix:
        # Cookiecutter's own environment may be gone tomorrow (uvx): take a Python outside of it.
        own = os.path.dirname(sys.executable)
        environment["PATH"] = os.pathsep.join(p for p in os.get_exec_path() if p != own)
        if shutil.which("python3", path=environment["PATH"]) is None:
            environment.setdefault("PYTHON", getattr(sys, "_base_executable", sys.executable))
    try:
        return subprocess.run(["bash", "setup_env.sh"], env=environment).returncode == 0
    except KeyboardInterrupt:
        return False  # the project stays, and setup_env.sh has said how to go on


lines, mends, placeholder = refusals()
if lines:
    print("The answers do not fit Polaris:", *lines, sep="\n  ", file=sys.stderr)
    print(f"Again, with the mend (all answers are kept):\n  {again(mends)}", file=sys.stderr)
    print("What follows is cookiecutter's own report of this refusal.", file=sys.stderr)
    sys.exit(1)

# `cruft update` and `cruft diff` render into a temporary folder, which is no project.
temporary = "_output_dir" not in answers and project.is_relative_to(Path(tempfile.gettempdir()).resolve())
if not temporary:
    ready = answers["create_venv"] == "yes" and create_venv()
    print(f"\nYour project: {project}")
    if placeholder:
        print(
            "Before PBS takes it: the name of your ALCF project in config.py (account) and driver.pbs (-A)."
        )
    print("Next:")
    near = os.path.relpath(project, os.environ.get("PWD", project.parent))
    print(f"  cd {shlex.quote(str(project) if near.startswith('..') else near)}")
    print("  source activate.sh" if ready else "  bash setup_env.sh && source activate.sh")
    print("  qsub driver.pbs" if shutil.which("qsub") and not placeholder else "  python run.py")
