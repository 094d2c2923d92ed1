"""After the files are written: create the virtual environment, say what is next.

Runs under cookiecutter's own Python with the new project as working folder.
"""

import sys

sys.path.pop(0)  # the folder of this script, a shared /tmp: what lies there must not be imported

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

answers = json.loads(r"""{{ cookiecutter | tojson }}""")
project = Path.cwd()


def meaning():
    """What the project's own checks find in the answers: (lines that refuse, lines that are said), placeholder?"""
    sys.dont_write_bytecode = True  # no __pycache__ in a new project
    sys.path.insert(0, str(project))
    from polaris import checks, facts

    same = ("project_slug", "account", "queue", "walltime", "filesystems", "conda_version", "workers_per_gpu")
    given = {name: answers[name] for name in same}
    for name in ("kinds", "nodes_of_kind"):  # as config.py has them
        given[name] = answers[f"_{name}"][answers["workload"]]
    settings = checks.Settings(**given, nodes_per_block=answers["nodes"], project_dir=str(project))
    found = checks.check(settings)
    fatal = [f"{p.name}={p.given}: {p.wrong}" for p in found if p.fatal]
    notes = [f"{p.name}={p.given}: {p.wrong}" for p in found if not p.fatal and p.name != "account"]
    written = (project / "config.py").read_text(encoding="utf-8")  # by an earlier bake, with -s
    return fatal, notes, f'ACCOUNT = "{facts.PLACEHOLDER}' in written.upper()


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


lines, notes, placeholder = meaning()
if lines:  # pre_gen has refused them already, but where cruft did not tell it where the template is
    print("The answers do not fit Polaris:", *lines, sep="\n  ", file=sys.stderr)
    sys.exit(1)
for note in notes:
    print(f"note: {note}", file=sys.stderr)

with contextlib.suppress(OSError):  # not empty, or not there
    (project / "templates").rmdir()  # only the workload program has files for it

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
