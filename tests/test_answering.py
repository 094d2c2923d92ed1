"""A user answers the questions: right answers make a project, wrong ones a list of what to mend, and no folder."""

import json
import os
import shlex
import signal
import string
import subprocess
import time

import pytest
from conftest import QUESTIONS, ROOT, run, tool, user_env
from hypothesis import given
from hypothesis import strategies as st
from polaris import checks, driver, facts, options

ASKED = [name for name in QUESTIONS if not name.startswith("_")]


# --- the questions -------------------------------------------------------------------------------
def test_there_are_eleven_questions_and_each_states_what_it_takes():
    assert len(ASKED) == 11
    assert list(QUESTIONS["__prompts__"]) == ASKED


def test_the_queues_are_labelled_with_the_limits_that_the_checks_use():
    labels = dict(QUESTIONS["__prompts__"]["queue"])
    labels.pop("__prompt__")
    assert labels == {name: f"{name}: {facts.what_fits(name)}" for name in facts.QUEUES}
    assert sorted(QUESTIONS["queue"]) == sorted(facts.QUEUES)


def test_the_versions_of_the_conda_module_in_the_question_are_those_that_are_known():
    *first, last = facts.CONDA_VERSIONS
    assert QUESTIONS["__prompts__"]["conda_version"].endswith(f"({', '.join(first)} or {last})")
    assert facts.CONDA_DEFAULT in facts.CONDA_VERSIONS


def test_no_prompt_has_square_brackets_which_rich_would_swallow():
    texts = []
    for prompt in QUESTIONS["__prompts__"].values():
        texts += [prompt] if isinstance(prompt, str) else prompt.values()
    assert not [text for text in texts if "[" in text or "]" in text]


def test_the_defaults_make_a_project_with_a_placeholder_account(bake):
    result = bake()
    assert result.exit_code == 0
    assert result.project_path.name == "ising-sweep"
    assert 'account = "YOURPROJECT"' in (result.project_path / "config.py").read_text()


def test_answers_typed_at_the_prompts_arrive(tmp_path):
    typed = "\n".join(
        ["Spin glass", "", "1", "MyProj", "3", "100", "12:00:00", "eagle", "2026-10-09", "2", "2", ""]
    )
    done = run([tool("cookiecutter"), str(ROOT)], tmp_path, stdin=None, input=typed, env=user_env(tmp_path))
    assert done.returncode == 0, done.stdout
    driver = (tmp_path / "spin-glass" / "driver.pbs").read_text()
    for line in (
        "-A MyProj",
        "-q prod",
        "-l select=100:system=polaris",
        "-l walltime=12:00:00",
        "-l filesystems=eagle",
    ):
        assert f"#PBS {line}\n" in driver
    config = (tmp_path / "spin-glass" / "config.py").read_text()
    assert "workers_per_gpu = 2 " in config and 'queue = "prod"' in config
    assert 'conda_version="2026-10-09"' in (tmp_path / "spin-glass" / "activate.sh").read_text()


def test_ctrl_c_at_a_prompt_leaves_nothing(tmp_path):
    asking = subprocess.Popen(
        [tool("cookiecutter"), str(ROOT)], cwd=tmp_path, env=user_env(tmp_path), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    time.sleep(1.5)
    asking.send_signal(signal.SIGINT)
    said = asking.communicate(timeout=20)[0].decode()
    assert asking.returncode != 0
    assert "Traceback" not in said
    assert not [p for p in tmp_path.iterdir() if not p.name.startswith(".")]


# --- answers that do not fit Polaris -------------------------------------------------------------
WRONG = [  # answers, what the refusal must say
    ({"queue": "prod", "nodes": "10", "walltime": "6:00:00"}, ["10 nodes for 3:00:00 at most", "25 nodes or more for 6:00:00"]),
    ({"queue": "prod", "nodes": "25", "walltime": "7:00:00"}, ["25 nodes for 6:00:00 at most", "100 nodes or more"]),
    ({"queue": "prod", "nodes": "9"}, ["10-24 nodes up to 3 h"]),
    ({"queue": "prod", "nodes": "497"}, ["100-496 nodes up to 24 h"]),
    ({"queue": "debug", "nodes": "3"}, ["debug takes 1-2 nodes"]),
    ({"queue": "debug-scaling", "nodes": "11"}, ["1-10 nodes"]),
    ({"queue": "preemptable", "nodes": "11", "walltime": "1:00:00"}, ["1-10 nodes"]),
    ({"queue": "capacity", "nodes": "5"}, ["1-4 nodes"]),
    ({"queue": "demand", "nodes": "57"}, ["1-56 nodes"]),
    ({"nodes": "0"}, ["fewer than one node"]),
    ({"nodes": "two"}, ["not a whole number"]),
    ({"nodes": "1.5"}, ["not a whole number"]),
    ({"walltime": "2:00:00"}, ["5 min - 1 h"]),
    ({"walltime": "0:04:59"}, ["5 min - 1 h"]),
    ({"walltime": "60"}, ["H:MM:SS"]),
    ({"walltime": "1:60:00"}, ["H:MM:SS"]),
    ({"account": "my.project"}, ["is no ALCF project"]),
    ({"account": "MyProject:sub"}, ["PROJECT::NAME, a sub-allocation"]),
    ({"account": "My::Pro::ject"}, ["is no ALCF project"]),
    ({"account": "MyProject::"}, ["is no ALCF project"]),
    ({"filesystems": "home:grand"}, ["grand is retired"]),
    ({"filesystems": "home:flare"}, ["Aurora"]),
    ({"filesystems": "home:egale"}, ["'egale'", "home and eagle"]),
    ({"filesystems": "home::eagle"}, ["''"]),
    ({"conda_version": "latest"}, ["default, 2025-09-25"]),
]  # fmt: skip


@pytest.mark.parametrize(
    "answers, said", WRONG, ids=[" ".join(f"{k}={v}" for k, v in a.items()) for a, _ in WRONG]
)
def test_an_answer_against_a_rule_is_refused_with_what_fits(bake, capfd, answers, said):
    result = bake(**answers)
    err = capfd.readouterr().err
    assert result.exit_code != 0 and result.project_path is None
    for words in said:
        assert words in err
    assert "Traceback" not in err


def test_every_problem_is_said_at_once_and_the_command_given_mends_them(tmp_path):
    wrong = [
        "queue=prod",
        "nodes=10",
        "walltime=6:00:00",
        "filesystems=grand",
        "account=MyProj",
        "create_venv=no",
    ]
    refused = run([tool("cookiecutter"), str(ROOT), "--no-input", *wrong], tmp_path, env=user_env(tmp_path))
    assert refused.returncode != 0
    assert "walltime=6:00:00" in refused.stdout and "filesystems=grand" in refused.stdout
    assert not (tmp_path / "ising-sweep").exists()
    again = next(line for line in refused.stdout.splitlines() if " --no-input " in line)
    done = run([tool("cookiecutter"), *shlex.split(again)[1:]], tmp_path, env=user_env(tmp_path))
    assert done.returncode == 0, done.stdout
    assert "#PBS -A MyProj\n" in (tmp_path / "ising-sweep" / "driver.pbs").read_text()


@pytest.mark.parametrize("flags", [["-f"], ["-f", "-s"], ["-fs"]])
def test_a_refusal_over_a_project_writes_nothing_and_says_how_to_ask_again(tmp_path, flags):
    env = user_env(tmp_path)
    command = [tool("cookiecutter"), str(ROOT), "--no-input", "create_venv=no", "account=MyProj"]
    assert run(command, tmp_path, env=env).returncode == 0
    project = tmp_path / "ising-sweep"
    (project / "apps.py").write_text("# mine\n")
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    refused = run([*command, *flags, "nodes=99", "project_name=Ising sweep"], tmp_path, env=env)
    assert (
        refused.returncode != 0
        and "and nothing was written:\n  nodes=99: debug takes 1-2 nodes" in refused.stdout
    )
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before
    again = next(line for line in refused.stdout.splitlines() if " --no-input " in line)
    done = run([tool("cookiecutter"), *shlex.split(again)[1:]], tmp_path, env=env)
    assert done.returncode == 0, done.stdout
    assert ((project / "apps.py").read_text() == "# mine\n") == (flags != ["-f"])


def test_a_slug_that_is_no_name_is_mended_to_one(tmp_path):
    refused = run(
        [tool("cookiecutter"), str(ROOT), "--no-input", "create_venv=no", "project_slug=my sweep"], tmp_path,
        env=user_env(tmp_path),
    )  # fmt: skip
    assert "project_slug=my sweep:" in refused.stdout and "project_dir=" not in refused.stdout
    assert " project_slug=my-sweep " in refused.stdout and "another/folder" not in refused.stdout


def test_every_wrong_answer_is_said_in_one_go_a_folder_with_a_space_too(tmp_path):
    folder = tmp_path / "my studies"
    folder.mkdir()
    wrong = [
        "account=My Project",
        "queue=prod",
        "nodes=3",
        "walltime=30",
        "filesystems=grand",
        "conda_version=2023",
        "project_slug=a b",
    ]
    refused = run([tool("cookiecutter"), str(ROOT), "--no-input", *wrong], folder, env=user_env(folder))
    for words in (
        "account=",
        "nodes=3",
        "walltime=30",
        "filesystems=grand",
        "conda_version=2023",
        "project_slug=a b",
        "project_dir=",
    ):
        assert f"\n  {words}" in refused.stdout
    again = next(line for line in refused.stdout.splitlines() if " --no-input " in line)
    assert "--output-dir /another/folder" in again and not (folder / "a b").exists()


@pytest.mark.parametrize(
    "version, said",
    [
        (
            "2024-04-29",
            "was deleted, as all old conda modules; in October 2026 there were default, 2025-09-25",
        ),
        ("2026-12-24", "is none of the conda modules of October 2026 (default, 2025-09-25"),
        ("2025-09-25-aws-nccl-1.9.1", "is none of the conda modules of October 2026 (default, 2025-09-25"),
        ("2025-09-28", None),
        ("2026-10-09", None),
    ],
)
def test_a_dated_conda_module_that_is_not_listed_is_a_note(bake, capfd, version, said):
    result = bake(conda_version=version)
    assert result.exit_code == 0
    assert f'conda_version="{version}"' in (result.project_path / "activate.sh").read_text()
    err = capfd.readouterr().err
    assert f"note: conda_version={version}: {said}" in err if said else "conda_version" not in err


def test_a_project_on_eagle_must_ask_for_eagle(tmp_path):
    on_eagle = "/lus/eagle/projects/MyProj/ising"
    for settings in (
        checks.Settings(filesystems="home", project_dir=on_eagle),
        checks.Settings(filesystems="home", run_dir="/eagle/MyProj/runs"),
    ):
        (problem,) = checks.check(settings)
        assert problem.fatal and problem.mend == "home:eagle" and "eagle" in problem.wrong
    assert checks.check(checks.Settings(filesystems="eagle", project_dir=on_eagle)) == []
    assert checks.check(checks.Settings(filesystems="home", project_dir="/eagleeye/x")) == []
    link = tmp_path / "link"
    link.symlink_to("/eagle/MyProj")
    assert checks.check(checks.Settings(filesystems="home", project_dir=str(link)))


def test_a_queue_that_does_not_exist_is_refused_by_cookiecutter_itself(bake):
    result = bake(queue="gpu")
    assert result.exit_code != 0 and result.project_path is None


# --- the same rules, for config.py ---------------------------------------------------------------
def fatal(**settings):
    ask = settings.pop("ask", lambda name: None)
    return [p.wrong for p in checks.check(checks.Settings(**settings), ask=ask) if p.fatal]


@pytest.mark.parametrize(
    "given, said",
    [
        (facts.cpu_affinity(2), "has 8 entries; 4 workers of a node need 4"),
        ("list:0-7:8-15:16-23", "3 entries"),
        ("list:0-7:7-15:16-23:24-31", "thread 7 to two workers"),
        ("list:0-7:8-15:16-23:24-64", "thread 64"),
        ("list:0-7:8-15:16-23:31-24", "empty range 31-24"),
        ("list:a:b:c:d", "is not list"),
        ("block", "is not list"),
    ],
)
def test_an_affinity_list_that_would_make_every_worker_die_is_refused(given, said):
    (wrong,) = options.problems_of_affinity(given, workers=4)
    assert said in wrong


@pytest.mark.parametrize("workers", range(1, facts.MAX_WORKERS_PER_GPU + 1))
def test_the_affinity_list_fits_any_number_of_workers(workers):
    given = facts.cpu_affinity(workers)
    assert list(options.problems_of_affinity(given, facts.GPUS_PER_NODE * workers)) == []
    threads = [facts.numbers_in(entry) for entry in given.split(":")[1:]]
    assert sorted(sum(threads, [])) == list(range(facts.THREADS_PER_NODE))
    assert min(map(len, threads)) == facts.threads_per_worker(workers)


@pytest.mark.parametrize(
    "seconds, words",
    [(0, "0 s"), (45.9, "45 s"), (99, "99 s"), (100, "2 min"), (300, "5 min"), (3599, "1 h"), (3725, "1 h 2 min"),
     (5400, "1 h 30 min"), (168 * 3600, "168 h")],
)  # fmt: skip
def test_a_duration_in_words(seconds, words):
    assert facts.in_words(seconds) == words


def test_the_affinity_list_of_one_worker_a_gpu_is_the_pages():
    assert facts.cpu_affinity(1) == "list:24-31,56-63:16-23,48-55:8-15,40-47:0-7,32-39"


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"workers_per_gpu": 9}, "1-8"),
        ({"workers_per_gpu": 0}, "1-8"),
        ({"queue": "debug-scaling", "max_blocks": 2}, "debug-scaling lets one user queue: 1"),
        ({"queue": "debug", "max_blocks": 2}, "debug lets one user queue: 1"),
        ({"queue": "debug", "jobs": 2}, "debug lets one user queue: 1; held jobs count"),
        ({"queue": "capacity", "jobs": 3}, "capacity lets one project queue: 2; held jobs count"),
        ({"queue": "preemptable", "jobs": 21}, "preemptable lets one project queue: 20"),
        ({"queue": "debug", "max_blocks": 0}, "fewer than one block"),
        ({"queue": "R123", "max_blocks": 0}, "fewer than one block"),
        ({"idle_time": 0}, "less than a second"),
        ({"idle_time": "ten minutes"}, "not a whole number"),
        ({"kinds": ["cpus"]}, "has 'cpus'; kinds of workers are gpu, cpu, node, mpi"),
        ({"kinds": "cpu"}, "is no list of kinds of workers"),
        ({"kinds": []}, "names no kind of workers"),
        ({"kinds": ["gpu", "gpu"]}, "names 'gpu' twice"),
        ({"kinds": ["gpu"], "nodes_of_kind": {"node": 1}}, "has 'node', which is none of kinds: gpu"),
        ({"kinds": ["gpu", "node"], "nodes_of_kind": {"node": 0}}, "is no whole number from 1 on"),
        ({"kinds": ["gpu", "node"], "nodes_of_kind": 1}, "is no dict of kinds and numbers of nodes"),
        (
            {"kinds": ["gpu", "node"]},
            "leaves 'node' without nodes of its own, which it cannot share with 'gpu'",
        ),
        (
            {"kinds": ["gpu", "node"], "nodes_of_kind": {"node": 2}, "nodes_per_block": 2},
            "no node is left for 'gpu': 2 nodes, 2 of them for 'node'",
        ),
        (
            {"kinds": ["mpi", "node"], "nodes_of_kind": {"node": 2, "mpi": 3}, "nodes_per_block": 4},
            "too few nodes: 3 for 'mpi' and 2 for 'node', of 4 nodes",
        ),
        (
            {"kinds": ["gpu", "cpu"], "workers_per_gpu": 1, "cpu_workers": 29, "cores_per_cpu_worker": 1},
            ": 28",
        ),
        ({"kinds": ["gpu", "cpu"], "workers_per_gpu": 8, "cpu_workers": 1, "cores_per_cpu_worker": 1}, ": 0"),
        ({"kinds": ["cpu"], "cpu_workers": 1, "cores_per_cpu_worker": 33}, "1-32"),
        ({"nodes_per_task": 0}, "those of the kind 'gpu'"),
        ({"queue": "small"}, "prod routes jobs into it"),
        ({"queue": "backfill-large"}, "prod routes jobs into it"),
        ({"queue": "no such queue"}, "no name of a queue"),
        ({"walltime": 3600}, "put it in quotes"),
        ({"nodes_per_block": True}, "not a whole number"),
        ({"run_dir": "/home/me/My Runs"}, "spaces"),
    ],
)
def test_edits_of_config_are_held_to_the_same_rules(settings, said):
    (wrong,) = fatal(**settings)
    assert said in wrong


def test_a_queue_that_only_the_live_server_knows(monkeypatch):
    reservation = {"queue": "R1819640", "nodes_per_block": 20, "walltime": "5:00:00"}
    (unasked,) = checks.check(checks.Settings(**reservation), ask=lambda name: None)
    assert not unasked.fatal and "not checked" in unasked.wrong
    assert "not on this PBS server" in fatal(**reservation, ask=lambda name: {})[0]
    assert fatal(**reservation, ask=lambda name: {"name": name}) == []
    small = {"name": "R1819640", "resources_max.nodect": "10", "resources_max.walltime": "06:00:00"}
    assert fatal(**reservation, ask=lambda name: small) == ["is more than R1819640 takes: 10"]


def test_a_driver_and_its_blocks_cannot_share_a_queue_of_one_job():
    found, lines = driver.read(
        "#!/bin/bash\n#PBS -q debug\n#PBS -l select=1:x=y,walltime=1:00:00\ncd\n#PBS -A x\n"
    )
    assert found == checks.Settings(queue="debug", nodes_per_block="1", walltime="1:00:00")
    assert lines == {"queue": 2, "nodes_per_block": 3, "walltime": 3}
    blocks = checks.Settings(queue="debug")
    assert [p.fatal for p in driver.beside(found, blocks, from_driver=True)] == [True]
    assert [p.fatal for p in driver.beside(found, blocks, from_driver=False)] == [False]
    other = checks.Settings(queue="prod")
    assert [p.fatal for p in driver.beside(found, other, from_driver=True)] == [False]


@given(
    st.sampled_from(list(facts.QUEUES)), st.integers(1, 600), st.integers(1, 30), st.integers(1, 5000),
    st.sampled_from([None, 0.001, 0.02, 1.0]), st.sampled_from([1, 2, 8]),
)  # fmt: skip
def test_no_advice_is_the_value_that_was_given(queue, nodes, blocks, rows, seconds, workers):
    settings = checks.Settings(
        queue=queue, nodes_per_block=nodes, max_blocks=blocks, rows=rows, seconds_per_row=seconds,
        workers_per_gpu=workers, walltime="1:00:00", jobs=blocks,
    )  # fmt: skip
    assert not [p for p in checks.check(settings) if p.mend == str(p.given)]


# --- properties ----------------------------------------------------------------------------------
QUEUE_LIMITS = {  # written down a second time from the user guide: most nodes, longest hours, by queue
    "debug": [(1, 2, 1)],
    "debug-scaling": [(1, 10, 1)],
    "prod": [(10, 24, 3), (25, 99, 6), (100, 496, 24)],
    "preemptable": [(1, 10, 72)],
    "capacity": [(1, 4, 168)],
    "demand": [(1, 56, 1)],
}


@given(
    st.sampled_from(list(QUEUE_LIMITS)),
    st.one_of(st.integers(0, 12), st.integers(0, 600)),
    st.one_of(st.integers(0, 4000), st.integers(0, 700_000)),
)
def test_a_job_is_accepted_exactly_if_a_queue_has_room_for_it(queue, nodes, seconds):
    accepted = fatal(queue=queue, nodes_per_block=nodes, walltime=facts.hms(seconds)) == []
    assert accepted == (
        seconds >= 300 and any(a <= nodes <= b and seconds <= h * 3600 for a, b, h in QUEUE_LIMITS[queue])
    )


answer = st.one_of(st.text(max_size=30), st.from_regex(r"[0-9]{1,4}(:[0-9]{2}){0,2}", fullmatch=True))


@given(st.sampled_from(list(QUEUE_LIMITS)), answer, answer, answer, answer, answer)
def test_any_answer_is_judged_and_the_mends_offered_are_accepted(
    queue, account, nodes, walltime, filesystems, conda
):
    settings = checks.Settings(None, account, queue, nodes, walltime, filesystems, conda, workers_per_gpu="1")
    for _ in range(4):  # a mended number of nodes may bring a walltime out of its queue's reach
        problems = [p for p in checks.check(settings) if p.fatal]
        if not problems:
            break
        assert all(p.wrong and "\n" not in p.wrong.replace(str(p.given), "") for p in problems)
        settings = settings._replace(**{p.name: p.mend for p in problems})
    assert not problems
    allowed = string.ascii_letters + string.digits + "_-:."
    assert all(set(str(value)) <= set(allowed) for value in settings[1:8])


@given(st.integers(0, 999 * 3600 + 3599))
def test_a_walltime_written_is_the_walltime_read(seconds):
    assert facts.seconds(facts.hms(seconds)) == seconds


# --- hostile answers -----------------------------------------------------------------------------
HOSTILE = {
    "quotes": "a'b\"c",
    "triple quotes": 'x"""+__import__("os").system("touch pwned")+"""',
    "command": "$(touch pwned)",
    "backticks": "`touch pwned`",
    "semicolon": "a;touch pwned",
    "newline": "a\ntouch pwned",
    "directive": "a\n#PBS -A other",
    "carriage return": "a\rb",
    "escape": "\x1b[2Jx",
    "line separator": "a\u2028b",
    "jinja": "{{ 7*7 }}",
    "jinja block": "{% include '/etc/passwd' %}",
    "jinja comment": "{# x #}",
    "our comment": "{## x ##}",
    "parent": "../outside",
    "absolute": "/etc/outside",
    "look-alike": "pro\u0455pect",  # a Cyrillic letter
    "look-alike digits": "\u0661:\u0660\u0660:\u0660\u0660",
    "full-width": "\uff0e\uff0e\uff0foutside",
    "long": "a" * 10_000,
    "option": "-rf",
    "empty": "",
    "dots": "..",
    "null": "a\x00b",
}
FREE = [name for name in ASKED if isinstance(QUESTIONS[name], str)]


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_hostile_answer_is_executed_rendered_or_written_outside(
    tmp_path, monkeypatch, cookies, capfd, kind
):
    monkeypatch.chdir(tmp_path)
    value = HOSTILE[kind]
    for name in FREE:
        result = cookies.bake(extra_context={"create_venv": "no", name: value})
        if name != "project_name" or result.exit_code != 0:
            assert result.project_path is None, f"{name} took {value!r}"
            continue
        # Free text, for people: it stands in the project as it was given, and in no script.
        output = tmp_path / "cookies"
        assert result.project_path.parent.parent == output
        assert (result.project_path / "README.md").read_text().startswith(f"# {value}\n")
        for script in ("driver.pbs", "activate.sh", "setup_env.sh", "config.py"):
            assert value not in (result.project_path / script).read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["cookies"]
    assert not list(tmp_path.rglob("pwned")) and not os.path.exists("/etc/outside")
    assert "Traceback" not in capfd.readouterr().err


def test_a_name_in_words_may_have_quotes_and_accents(bake):
    name = "O'Neill's \"spin\" glass, T < 2 & über"
    result = bake(project_name=name)
    assert result.exit_code == 0, result.exception
    assert result.project_path.name == "o-neill-s-spin-glass-t-2-uber"
    assert (result.project_path / "README.md").read_text().startswith(f"# {name}\n")
    description = json.loads(
        (result.project_path / "pyproject.toml").read_text().split("description = ")[1].split("\n")[0]
    )
    assert description == name  # a TOML basic string is a JSON string
