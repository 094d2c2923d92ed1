"""What is baked: the same files in every supported combination of answers, clean for every reader and tool."""

import itertools
import re
import subprocess
import sys

import pytest
from conftest import QUESTIONS, ROOT, run, tool, user_env

BOTH = """
    .gitattributes .gitignore README.md activate.sh analysis.py apps.py chain.sh config.py driver.pbs inputs/sweep.csv pyproject.toml
    requirements-laptop.txt requirements.txt run.py setup_env.sh tests/conftest.py tests/test_project.py tests/test_settings.py
    polaris/__init__.py polaris/advice.py polaris/anew.py polaris/arguments.py polaris/batch_files.py polaris/batches.py polaris/blocks.py polaris/by_value.py
    polaris/causes.py polaris/checking.py polaris/checkpoint.py polaris/checks.py polaris/choosing.py
    polaris/cli.py polaris/code.py polaris/driver.py polaris/ending.py polaris/environment.py polaris/fork_server.py
    polaris/errors.py polaris/facts.py polaris/folder.py polaris/gpu_affinity.sh polaris/groups.py
    polaris/history.py polaris/identity.py polaris/imported.py polaris/inputs.py polaris/interchange.py polaris/jobs.py
    polaris/kernel.py polaris/keys.py polaris/kinds.py polaris/layout.py polaris/loads.py
    polaris/local_environment.sh polaris/lock.py polaris/machine.py polaris/mailbox.py polaris/maps.py
    polaris/memo.py polaris/memory.py polaris/mistakes.py polaris/mpi.py polaris/mpiexec.sh polaris/on_worker.py
    polaris/options.py polaris/page.py polaris/parsl_inside.py polaris/parsl_parts.py
    polaris/pictures.py polaris/places.py polaris/plan.py polaris/prefix.py polaris/printed.py
    polaris/programs.py polaris/queues.py polaris/reading.py polaris/rendering.py
    polaris/report.py polaris/result_table.py polaris/results.py polaris/rules.py polaris/running.py
    polaris/runs.py polaris/screen.py polaris/sending.py polaris/session.py polaris/settings.py
    polaris/showing.py polaris/signals.py polaris/sources.py polaris/spent.py polaris/start_workers.sh
    polaris/staying.py polaris/submits.py polaris/tables.py polaris/tally.py polaris/threads.py
    polaris/time_limit.py polaris/timeline.py polaris/values.py polaris/views.py polaris/walltime.py
    polaris/wanted.py polaris/work.py polaris/worker_pool.py polaris/writing.py
""".split()
FILES = {
    "sweep": sorted(BOTH),
    "inference": sorted(
        {*BOTH, "inputs/configurations.jsonl", "ising.py", "model.py"} - {"inputs/sweep.csv"}
    ),
    "program": sorted([*BOTH, "ising.py", "templates/in.ising"]),
    "mpi": sorted([*BOTH, "ising.py"]),
    "stages": sorted([*BOTH, "ising.py"]),
    "steering": sorted([*BOTH, "ising.py"]),
}

FITTING = {
    "debug": "2",
    "debug-scaling": "10",
    "prod": "24",
    "preemptable": "10",
    "capacity": "4",
    "demand": "56",
}
COMBINATIONS = [
    {
        "queue": queue,
        "nodes": FITTING[queue],
        "conda_version": conda,
        "filesystems": files,
        **workload,
    }
    for queue, conda, files, workload in itertools.product(
        QUESTIONS["queue"],
        ["default", "2025-09-25", "2026-10-09"],
        ["home:eagle", "eagle", "home"],
        [{"workload": workload} for workload in QUESTIONS["workload"][1:]]
        + [{"workers_per_gpu": workers} for workers in QUESTIONS["workers_per_gpu"]],
    )
]


def files_of(project):
    return sorted(str(p.relative_to(project)) for p in project.rglob("*") if p.is_file())


def lint(*projects, machinery=True):
    """Ruff and shellcheck over projects, in one go; without machinery: without polaris/, the same in all."""
    places = projects if machinery else [p for project in projects for p in project.glob("*.py")]
    for command in (["check"], ["format", "--check", "--quiet"]):
        done = run([sys.executable, "-m", "ruff", *command, "--no-cache", *places], ROOT)
        assert done.returncode == 0, done.stdout
    found = "rglob" if machinery else "glob"
    scripts = [p for project in projects for p in (*getattr(project, found)("*.sh"), project / "driver.pbs")]
    done = run([tool("shellcheck"), *scripts], ROOT, env=user_env(ROOT))
    assert done.returncode == 0, done.stdout


def inspect(project, answers):
    """What must hold of every baked project."""
    assert files_of(project) == FILES[answers.get("workload", "sweep")]
    for name in files_of(project):
        text = (project / name).read_text()
        for marker in ("{{", "{%", "{##", "cookiecutter.", "%}"):
            assert marker not in text, f"{marker} is left in {name}"
        assert text.endswith("\n") and not text.endswith("\n\n"), f"{name} ends with blank lines"
        assert not re.search(r"[ \t]$", text, re.MULTILINE), f"{name} has blanks at the end of a line"
        assert "\n\n\n\n" not in text, f"{name} has a run of blank lines"
    driver = (project / "driver.pbs").read_text()
    assert driver.startswith("#!/bin/bash\n#PBS ")
    assert f"select={answers['nodes']}:system=polaris\n" in driver and f"-q {answers['queue']}\n" in driver
    directives = [line.startswith("#PBS") for line in driver.splitlines()[1:]]
    assert directives == sorted(directives, reverse=True), "a comment among the #PBS lines breaks them"


@pytest.mark.parametrize("workload", FILES)
def test_a_project_has_the_files_that_its_readme_names_and_no_others(bake, workload):
    project = bake(workload=workload).project_path
    inspect(project, {"nodes": "2" if workload == "stages" else "1", "queue": "debug", "workload": workload})
    lint(project)
    readme = (project / "README.md").read_text()
    for name in {name.split("/")[0] for name in FILES[workload]} - {
        ".gitattributes",
        ".gitignore",
        "README.md",
        "pyproject.toml",
        "requirements.txt",
    }:
        assert name in readme or name.startswith("requirements"), f"the README says nothing of {name}"


def test_scripts_can_be_executed(bake):
    assert (bake().project_path / "setup_env.sh").stat().st_mode & 0o100


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["-f -s", "-f"])
@pytest.mark.parametrize("workload", FILES)
def test_baking_over_a_project_touches_what_it_renders_and_nothing_else(tmp_path, flags, workload):
    """cookiecutter -f writes over files of the template, -f -s over none; what is the user's own is kept by both."""
    env = user_env(tmp_path)
    command = [tool("cookiecutter"), str(ROOT), "--no-input", "create_venv=no"]
    assert run([*command, f"workload={workload}"], tmp_path, env=env).returncode == 0
    project = tmp_path / "ising-sweep"
    theirs = files_of(project)
    mine = [
        "mpi/input.dat",
        "sweep/mine.py",
        "polaris/notes.txt",
        "inputs/field.txt",
        "tests/test_mine.py",
        "results/results.csv",
    ]
    for name in theirs:
        with open(project / name, "a") as file:
            file.write("# edited\n")
    for name in mine:
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text("mine\n")
    before = {name: (project / name).read_bytes() for name in files_of(project)}
    again = run([*command, f"workload={workload}", *flags.split()], tmp_path, env=env)
    assert again.returncode == 0, again.stdout
    after = {name: (project / name).read_bytes() for name in files_of(project)}
    assert list(after) == list(before)
    written = [name for name in before if after[name] != before[name]]
    assert written == ([] if "-s" in flags else theirs)
    # The other workload over it: with -s only what the project does not have is added.
    other = "mpi" if workload == "sweep" else "sweep"
    run([*command, f"workload={other}", "-f", "-s"], tmp_path, env=env)
    assert {*files_of(project)} - {*before} == {*FILES[other]} - {*FILES[workload]}
    assert all((project / name).read_bytes() == after[name] for name in after)


def test_what_differs_between_the_workloads_is_included_as_it_is(bake):
    """The files of templates/ are what they become: nothing in them is for Jinja."""
    for workload in FILES:
        project, source = bake(workload=workload).project_path, ROOT / "templates" / workload
        for path in source.rglob("*.*"):
            text = path.read_text()
            # What is shared with another workload.
            text = with_includes(text)
            assert (project / path.relative_to(source)).read_text() == text
    machinery = ROOT / "{{cookiecutter.project_slug}}" / "polaris"
    for path in machinery.glob("*.*"):
        assert (project / "polaris" / path.name).read_bytes() == path.read_bytes()


def with_includes(text):
    def included(found):
        return with_includes((ROOT / "templates" / found[1]).read_text())

    return re.sub(r"\{% include [\"'](.+)[\"'] %\}\n", included, text)


@pytest.mark.slow
@pytest.mark.parametrize("queue", QUESTIONS["queue"])
def test_every_combination_of_answers_is_clean(cookies, queue):
    assert len(COMBINATIONS) == 432
    projects = []
    for answers in [answers for answers in COMBINATIONS if answers["queue"] == queue]:
        result = cookies.bake(extra_context={"create_venv": "no", "account": "MyProj", **answers})
        assert result.exit_code == 0, answers
        inspect(result.project_path, answers)
        projects.append(result.project_path)
    assert len(projects) == 72
    lint(*projects, machinery=False)  # polaris/ is linted above, and rendered as it is
    # config.py imports with the standard library alone, and its settings pass the checks that run.py makes.
    script = """
import sys
for folder in sys.argv[1:]:
    sys.path.insert(0, folder)
    for name in [name for name in sys.modules if name.split(".")[0] in ("config", "polaris")]:
        del sys.modules[name]
    from polaris import environment, machine, settings
    import config
    environment.lacks_worker_pool = lambda ours: None  # nothing is installed here
    assert str(machine.PROJECT) == folder and "parsl" not in sys.modules
    wrong = [line for fatal, line in settings.found(config, "blocks", every_file=True) if fatal]
    by_job = [line for line in wrong if "qsub driver.pbs, in whose job the kinds share" in line]
    assert wrong == by_job and (len(config.kinds) > 1 or not wrong), wrong
    sys.path.pop(0)
"""
    checked = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, *map(str, projects)], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr


def test_a_project_is_the_same_by_cruft(tmp_path):
    env = user_env(tmp_path)
    repository = tmp_path / "template"
    run(["git", "clone", "--quiet", str(ROOT), str(repository)], tmp_path, env=env)
    for folder, command in (
        ("by-cruft", [tool("cruft"), "create", "--no-input"]),
        ("by-cookiecutter", [tool("cookiecutter"), "--no-input"]),
    ):
        extra = ["--extra-context", '{"create_venv": "no"}'] if "cruft" in command[0] else ["create_venv=no"]
        (tmp_path / folder).mkdir()
        done = run(
            [*command, str(repository), "--output-dir", str(tmp_path / folder), *extra], tmp_path, env=env
        )
        assert done.returncode == 0, done.stdout
    diff = run(
        ["diff", "-r", "-x", ".cruft.json", "by-cruft/ising-sweep", "by-cookiecutter/ising-sweep"], tmp_path
    )
    assert diff.stdout == "" and (tmp_path / "by-cruft" / "ising-sweep" / ".cruft.json").exists()


def test_crufts_temporary_renders_create_no_environment(tmp_path):
    """`cruft diff` renders the project again, with create_venv=yes, into a temporary folder."""
    env = user_env(tmp_path)
    repository = tmp_path / "template"
    run(["git", "clone", "--quiet", str(ROOT), str(repository)], tmp_path, env=env)
    home = tmp_path / "home"
    home.mkdir()
    answers = '{"create_venv": "no"}'
    run(
        [
            tool("cruft"),
            "create",
            "--no-input",
            "--output-dir",
            "home",
            "--extra-context",
            answers,
            str(repository),
        ],
        tmp_path,
        env=env,
    )
    project = home / "ising-sweep"
    state = project / ".cruft.json"
    state.write_text(state.read_text().replace('"create_venv": "no"', '"create_venv": "yes"'))
    (project / "config.py").write_text(
        (project / "config.py").read_text().replace("retries = 2", "retries = 3")
    )
    done = run([tool("cruft"), "diff"], project, env=env)
    assert "retries = 3" in done.stdout, done.stdout
    assert "1/4" not in done.stdout and "Your project" not in done.stdout


def test_the_readme_tells_the_shortest_tasks_by_the_figures_that_the_checks_use(bake):
    project = bake().project_path
    code = "from polaris import facts as f; print(f.GPUS_PER_NODE, f.TASKS_PER_SECOND, f.ROWS_PER_SECOND)"
    gpus, tasks, rows = map(int, run([sys.executable, "-c", code], project).stdout.split())
    table = re.findall(
        r"^\| (\d+) \| ([\d,]+) \| ([\d.]+) s \| ([\d.]+) s \|$", (project / "README.md").read_text(), re.M
    )
    assert [int(nodes) for nodes, *_ in table] == [10, 100, 496]
    for nodes, workers, alone, grouped in table:
        assert int(workers.replace(",", "")) == int(nodes) * gpus
        assert float(alone) == pytest.approx(int(nodes) * gpus / tasks, rel=0.02)
        assert float(grouped) == pytest.approx(int(nodes) * gpus / rows, rel=0.02)
