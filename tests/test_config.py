"""config.py: a file that any tool can read, in the template too; and what its options do with Parsl alone."""

import ast
import re

import pytest
from conftest import ROOT, edit, user

TEMPLATE = ROOT / "{{cookiecutter.project_slug}}"

SCRIPT = """
import sys, time
import config, parsl
from parsl import python_app

@python_app
def double(x):
    return 2 * x

with parsl.load(config.fresh_config("blocks")) as dfk:
    jobs = next(each for label, each in dfk.executors.items() if label != "_parsl_internal").provider.resources
    time.sleep(3)
    print("before a task", len(jobs))
    print("a task", double(1).result(), len(jobs))
    end = time.time() + 30
    while time.time() < end and not all(job["status"].terminal for job in jobs.values()):
        time.sleep(0.5)
    print("idle for", round(time.time() - end + 30), "s")
    print("another task", double(2).result(), len(jobs))
"""


def test_config_is_python_in_the_template_and_its_substitutions_stand_at_the_top():
    text = (TEMPLATE / "config.py").read_text()
    options, configuration = text.split("# --- the Parsl configuration ---")
    names = [node.targets[0].id for node in ast.parse(options).body if isinstance(node, ast.Assign)]
    assert names[:3] == ["project_dir", "account", "queue"] and "kinds" in names
    assert "{{" not in configuration and "{%" not in text
    assert len(re.findall("{{", options)) == 8, "few"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpu", "mpi"])
def test_a_block_is_asked_for_with_the_first_task_and_given_back_when_idle(polaris, pbs, kind):
    project = polaris()
    edit(project, "config.py", "idle_time = 600", "idle_time = 3")
    edit(project, "config.py", 'kinds = ["gpu"]', f'kinds = ["{kind}"]')
    (project / "mine.py").write_text(SCRIPT)
    done = user(project, "python mine.py", pbs)
    assert done.returncode == 0, done.stdout
    assert "before a task 0\na task 2 1\n" in done.stdout, done.stdout
    assert "another task 4 2\n" in done.stdout, done.stdout
    assert 3 <= int(re.search(r"idle for (\d+) s", done.stdout)[1]) <= 15, done.stdout
    first, _ = pbs.jobs().values()
    assert first["job_state"] == "F" and len(pbs.submissions) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "given, said",
    [
        ('"list:0-7:8-15"', "cpu_affinity = 'list:0-7:8-15' of gpu: has 2 entries; 4 workers of a node need 4"),
        ('"near"', "cpu_affinity = 'near' of gpu: is not list:A-B,C-D:..., threads of each worker"),
        ('"block"', None),
    ],
)  # fmt: skip
def test_an_affinity_list_of_ones_own_is_held_to_the_workers(polaris, pbs, given, said):
    project = polaris()
    edit(project, "config.py", "facts.cpu_affinity(workers_per_gpu, taken)", given)
    done = user(project, "python run.py --check", pbs)
    assert done.returncode == (0 if said is None else 2), done.stdout
    assert said is None or f"fresh_config: {said}\n" in done.stdout, done.stdout
    assert "Traceback" not in done.stdout and pbs.submissions == []


@pytest.mark.slow
def test_only_the_options_of_the_chosen_kind_are_checked(polaris, pbs):
    project = polaris()
    edit(project, "config.py", "nodes_per_task = 1", "nodes_per_task = 99")
    assert user(project, "python run.py --check", pbs).returncode == 0
    edit(project, "config.py", 'kinds = ["gpu"]', 'kinds = ["mpi"]')
    done = user(project, "python run.py --check", pbs)
    assert done.returncode == 2 and "nodes_per_task = 99: is more nodes than there are" in done.stdout
    edit(project, "config.py", 'kinds = ["mpi"]', 'kinds = ["gpus"]')
    done = user(project, "python run.py --check", pbs)
    assert (
        done.returncode == 2 and "kinds = ['gpus']: has 'gpus'; kinds of workers are gpu, cpu" in done.stdout
    )
