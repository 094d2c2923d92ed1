"""What is wrong with the answers, by the project's own checks, and the command that asks again with the mends.

No hook: pre_gen imports it from the template, before anything is written.
"""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

QUESTIONS = {"nodes_per_block": "nodes"}  # where config.py has another name for a question


def problems(answers, project, checks):
    """(lines that refuse, {question: value that would do})."""
    same = ("project_slug", "account", "queue", "walltime", "filesystems", "conda_version", "workers_per_gpu")
    given = {name: answers[name] for name in same}
    for name in ("kinds", "nodes_of_kind"):  # as config.py has them
        given[name] = answers[f"_{name}"][answers["workload"]]
    # A slug that is no name is said as such: the folder it is in may well be one.
    good = re.fullmatch(r"[A-Za-z0-9_-]+", answers["project_slug"])
    folder = str(project if good else project.parent / "project")
    settings = checks.Settings(**given, nodes_per_block=answers["nodes"], project_dir=folder)
    lines, mends = [], {}
    for problem in checks.check(settings):
        if problem.fatal:
            name = QUESTIONS.get(problem.name, problem.name)
            lines.append(f"{name}={problem.given}: {problem.wrong}")
            mends.setdefault(name, problem.mend or "...")
    return lines, mends


def again(answers, defaults, mends):
    """The command that asks for the same project with the mends."""
    template = answers.get("_template", ".")
    beside = os.path.join(os.path.dirname(sys.executable), "cookiecutter")
    command = ["cookiecutter" if shutil.which("cookiecutter") else beside, template]
    if answers.get("_checkout"):
        command += ["--checkout", answers["_checkout"]]
    if mends.pop("project_dir", None):
        command += ["--output-dir", "/another/folder"]
    elif answers.get("_output_dir") not in (None, os.environ.get("PWD")):
        command += ["--output-dir", answers["_output_dir"]]
    command += _flags()
    values = {name: value for name, value in answers.items() if name in defaults}
    return shlex.join([*command, "--no-input", *(f"{k}={v}" for k, v in {**values, **mends}.items())])


def _flags():
    """-f and -s, where cookiecutter, which runs this, was given them: no answer tells."""
    try:
        words = Path(f"/proc/{os.getppid()}/cmdline").read_text().split("\0")
    except (OSError, ValueError):
        return []
    return [w for w in words if re.fullmatch("-[fs]+|--overwrite-if-exists|--skip-if-file-exists", w)]
