"""The stand-in for PBS Pro, PALS mpiexec and nvidia-smi is itself held to what real ones answered."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from pbs.pbs_pmi import PMI
from pbs.server import PBS

TRANSCRIPT = Path(__file__).resolve().parent / "pbs" / "transcripts" / "openpbs-23.06.txt"
GOOD = [
    "-A",
    "proj",
    "-q",
    "debug",
    "-l",
    "walltime=0:10:00,filesystems=home:eagle",
    "-l",
    "select=1:system=polaris",
]
TWO = [*GOOD, "-l", "select=2:system=polaris", "-l", "place=scatter"]
A, B, C, D = "x3001c0s1b0n0", "x3001c0s7b0n0", "x3001c0s13b0n0", "x3001c0s19b0n0"


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def start(tmp_path, home):
    """Start a stand-in with options; afterwards nothing of any job may be alive."""
    running = []

    def begin(**options):
        options = {"kill_delay": 0.5, "path_extra": [Path(sys.executable).parent], **options}
        pbs = PBS(tmp_path, user="user", home=home, **options)
        running.append(pbs)
        return pbs.__enter__()

    yield begin
    for pbs in running:
        pbs.__exit__()
        assert pbs.leftovers() == []


@pytest.fixture
def pbs(start):
    return start()


def script(home, text, name="job.pbs"):
    (home / name).write_text(text)
    return name


def submit(pbs, home, text, flags=GOOD, name="job.pbs", **options):
    done = pbs.run("qsub", *flags, script(home, text, name), cwd=home, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def refusal(pbs, home, *flags, text="true\n"):
    done = pbs.run("qsub", *flags, script(home, text), cwd=home)
    assert done.returncode != 0 and done.stdout == ""
    return done.stderr.strip().split("\n")[0], done.returncode


def until(condition, timeout=10.0):
    end = time.time() + timeout
    while not condition():
        assert time.time() < end, "waited in vain"
        time.sleep(0.02)


# ---------------------------------------------------------------- the transcript, replayed


def transcript():
    """(command, stdout, stderr, exit code) of each call."""
    for block in re.split(r"^\$ ", TRANSCRIPT.read_text(), flags=re.MULTILINE)[1:]:
        command, _, rest = block.partition("\n")
        body, code = re.fullmatch(r"(.*?)\[exit (\d+)\]\n*", rest, flags=re.DOTALL).groups()
        lines = body.splitlines(keepends=True)
        err = "".join(line.removeprefix("[stderr] ") for line in lines if line.startswith("[stderr] "))
        out = "".join(line for line in lines if not line.startswith("[stderr] "))
        yield command, out, err, int(code)


def normal(text, home):
    """Without what depends on the day, the machine or the speed: times, paths, measured resources."""
    text = text.replace(str(home), "/home/user")
    for pattern, mark in (
        (r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}", "DATE"),
        (r"run at \w+ \w+ \d+ at \d\d:\d\d", "run at DATE"),
        (r'("(?:timestamp|history_timestamp|session_id|cpupercent)":\t)\d+', r"\1N"),
        (r'("(?:cput|mem|vmem|PBS_O_PATH)":\t)"[^"]*"', r'\1"X"'),
        (r'("vmem":.*\n\t+"walltime":\t)"[^"]*"', r'\1"X"'),
        (r"(user +)\d\d:\d\d:\d\d ", r"\1CPU-TIME "),
    ):
        text = re.sub(pattern, mark, text)
    return text


def by_job(text):
    """A JSON document's text, cut into its head and one piece a job."""
    head, *pieces = re.split(r'^\t\t"([\d.a-z-]+)":\t\{\n', text, flags=re.MULTILINE)
    jobs = dict(zip(pieces[::2], pieces[1::2], strict=True))
    # The last job has no comma behind it, and the document's end.
    return head, {name: piece.removesuffix("\n\t}\n}\n").rstrip(",\n") for name, piece in jobs.items()}


def past(pbs, home, env):
    """Jobs 0-9 of the cluster on which the transcript begins."""
    (home / "t.pbs").write_text(
        "#PBS -N test\n#PBS -l walltime=0:10:00,filesystems=home:eagle\n"
        "#PBS -l select=2:system=polaris:ngpus=4 -l place=scatter\ntrue\n"
    )
    for _ in "01":
        done = pbs.run("qsub", "-A", "p", "-q", "debug", "t.pbs", cwd=home, env=env)
        pbs.wait(done.stdout.strip())
    scripts = home / "seed/run/000/submit_scripts"
    scripts.mkdir(parents=True)
    for name, gone in (("1795488016.9698548", 2), ("1795488229.978396", 4)):
        path = scripts / f"parsl.htex.block-0.{name}"
        path.write_text(
            f"#!/bin/bash\n\n#PBS -S /bin/bash\n#PBS -N {path.name}\n#PBS -m n\n#PBS -l walltime=1:00:00\n"
            f"#PBS -l select=3:ncpus=32:ngpus=4\n#PBS -o {path}.stdout\n#PBS -e {path}.stderr\n"
            "#PBS -l filesystems=home:eagle\n\nsleep 60\n"
        )
        command = ["qsub", "-q", "debug-scaling", "-A", "YOURPROJECT", path]
        job = pbs.run(*command, cwd=home / "seed", env=env).stdout.strip()
        pbs.wait(job, state="R")
        assert pbs.run("qdel", job).returncode == 0
        pbs.wait(job)
        pbs.vanish_next(gone)
        for _ in range(gone):
            assert pbs.run("qsub", "-A", "p", "-q", "debug", "t.pbs", cwd=home, env=env).returncode == 0


def test_every_answer_of_the_transcript(start, home):
    pbs = start(nodes=3)
    env = pbs.env()
    env.pop("LANG", None)
    past(pbs, home, env)
    (home / "s.pbs").write_text("#!/bin/bash\n#PBS -N sleeper\nsleep 60\n")
    for command, out, err, code in transcript():
        done = pbs.run(*shlex.split(command), cwd=home, env=env)
        assert (done.stderr, done.returncode) == (err, code), command
        got, real = normal(done.stdout, home), normal(out, home)
        if command == "qstat -Q":
            # The stand-in has more queues, and not that cluster's workq.
            assert got.splitlines()[:2] == real.splitlines()[:2]
            wanted = [line for line in real.splitlines()[2:] if not line.startswith("workq")]
            assert set(wanted) <= set(got.splitlines())
        elif command == "qstat -x -f -F json":
            (got_head, got_jobs), (real_head, real_jobs) = by_job(got), by_job(real)
            assert got_head == real_head and list(got_jobs) == list(real_jobs)
            # Job 0 outlived a restart of that server, and job 1 was over before its session was reported.
            got_jobs["1.polaris-login-01"] = re.sub(
                r'\t+"session_id".*\n', "", got_jobs["1.polaris-login-01"]
            )
            for name in list(real_jobs)[1:]:
                assert got_jobs[name] == real_jobs[name], name
            json.loads(done.stdout)
        else:
            assert got == real, command
        if command.startswith("qsub") and code == 0:
            job = done.stdout.strip()
            until(lambda job=job: "comment" in pbs.job(job))


# ---------------------------------------------------------------- strictness


def test_qsub_refuses_what_it_does_not_know(pbs, home):
    job = script(home, "true\n")
    for flags in (
        ["-Z"],
        ["--account", "p"],
        ["-I"],
        ["-J", "1-4"],
        ["-r", "maybe"],
        ["-W", "umask=22"],
        ["-l", "x"],
    ):
        done = pbs.run("qsub", *GOOD, *flags, job, cwd=home)
        assert done.returncode == 2 and "usage: qsub" in done.stderr, flags
    assert pbs.run("qsub", job, *GOOD, cwd=home).returncode == 2, "options after the script"
    assert refusal(pbs, home, *GOOD, "-l", "nodect=1")[1] == 155
    assert refusal(pbs, home, *GOOD, "-l", "wall=1")[1] == 187
    assert refusal(pbs, home, *GOOD, "-l", "select=1:gpus=4")[1] == 187
    assert refusal(pbs, home, *GOOD, "-l", "select=one")[1] == 166
    assert refusal(pbs, home, *GOOD, "-l", "place=spread")[1] == 166
    assert pbs.submissions == [] and len(pbs.refusals) == 13 and pbs.jobs() == {}


def test_other_commands_refuse_what_they_do_not_know(pbs):
    for command in (
        ["qstat", "-w"],
        ["qstat", "-F", "json"],
        ["qdel"],
        ["qdel", "-x", "0"],
        ["pbsnodes", "-z"],
    ):
        done = pbs.run(*command)
        assert done.returncode == 2 and "usage:" in done.stderr, command
    for command in (["nvidia-smi"], ["nvidia-smi", "-q"], ["hostname", "-f"]):
        assert pbs.run(*command).returncode == 2, command
    assert pbs.run("qstat").stdout == ""
    env = pbs.env()
    del env["STAND_IN_DIR"]
    for command in ("qsub", "nvidia-smi", "hostname", "mpiexec"):
        done = pbs.run(command, env=env)
        assert (done.returncode, done.stderr) == (1, f"{command}: STAND_IN_DIR is not set\n")


def test_directives_end_at_the_first_command_and_take_no_comment(pbs, home):
    head = "#!/bin/bash\n# about this job\n\n#PBS -N early\n#PBS -l walltime=0:20:00\n"
    job = submit(pbs, home, head + "true\n#PBS -N late\n#PBS -Z\n")
    assert pbs.job(job)["Job_Name"] == "early"
    assert pbs.job(job)["Resource_List"]["walltime"] == "00:10:00", "the command line wins"
    text, code = refusal(pbs, home, *GOOD, text="#PBS -A proj # our project\ntrue\n")
    assert (text, code) == ("qsub: directive error: -A proj # our project", 1)


def test_script_from_standard_input(pbs, home):
    with (home / script(home, "echo fed\n")).open() as text:
        done = pbs.run("qsub", *GOOD, cwd=home, stdin=text)
    pbs.wait(done.stdout.strip())
    assert (home / "STDIN.o0").read_text() == "fed\n"


# ---------------------------------------------------------------- queues


def test_queue_limits(start, home):
    pbs = start(nodes=1)
    limits = ("qsub: Job violates queue and/or server resource limits", 188)
    for queue, nodes, walltime in (
        ("debug", 1, "1:00:01"),
        ("debug-scaling", 11, "0:10:00"),
        ("preemptable", 11, "1:00:00"),
        ("preemptable", 1, "72:00:01"),
        ("capacity", 5, "1:00:00"),
        ("demand", 57, "1:00:00"),
    ):
        flags = ["-q", queue, "-l", f"select={nodes},walltime={walltime}"]
        assert refusal(pbs, home, *GOOD, *flags) == limits, queue
    for queue in ("small", "medium", "large"):
        assert refusal(pbs, home, *GOOD, "-q", queue) == ("qsub: Access to queue is denied", 174)
    per_user, per_project = (
        (f"qsub: would exceed queue generic's per-{whose} limit", 38) for whose in ("user", "project")
    )
    for queue in ("capacity", "capacity", "debug", "debug-scaling", "R1819640"):
        submit(pbs, home, "sleep 60\n", [*GOOD, "-q", queue])
    assert refusal(pbs, home, *GOOD, "-q", "capacity") == per_project
    assert refusal(pbs, home, *GOOD, "-q", "debug") == per_user
    assert refusal(pbs, home, *GOOD, "-q", "debug-scaling") == per_user


def test_a_job_held_by_a_dependency_counts_as_queued(pbs, home):
    first = submit(pbs, home, "sleep 60\n", [*GOOD, "-q", "capacity"])
    submit(pbs, home, "true\n", [*GOOD, "-q", "capacity", "-W", f"depend=afternotok:{first}"])
    assert refusal(pbs, home, *GOOD, "-q", "capacity")[1] == 38


def test_one_capacity_job_of_a_project_runs_and_the_next_waits(pbs, home):
    first = submit(pbs, home, "sleep 60\n", [*GOOD, "-q", "capacity"])
    second = submit(pbs, home, "true\n", [*GOOD, "-q", "capacity"])
    pbs.wait(first, state="R")
    until(lambda: "comment" in pbs.job(second))
    assert pbs.job(second)["comment"].endswith("reached queue capacity running job limit.")
    pbs.run("qdel", "-W", "force", first)
    assert pbs.wait(second)["Exit_status"] == 0


def test_prod_routes_by_size_and_swallows_what_fits_nowhere(start, home):
    pbs = start(nodes=12)
    job = submit(pbs, home, "echo $PBS_O_QUEUE $PBS_QUEUE\n", [*GOOD, "-q", "prod", "-l", "select=10"])
    assert pbs.wait(job)["queue"] == "small"
    assert (home / "job.pbs.o0").read_text() == "prod small\n"
    queued = submit(pbs, home, "true\n", [*GOOD, "-q", "prod", "-l", "select=30,walltime=6:00:00"])
    assert pbs.job(queued)["queue"] == "medium"
    lost = submit(pbs, home, "true\n", [*GOOD, "-q", "prod", "-l", "select=10,walltime=6:00:00"])
    done = pbs.run("qstat", lost)
    assert (done.stderr, done.returncode) == (f"qstat: Unknown Job Id {lost}\n", 153)
    assert pbs.wait(lost) is None and pbs.submissions[-1]["vanished"]


def test_refusals_vanishing_and_long_queues_on_demand(pbs, home):
    pbs.refuse("qsub: would exceed queue generic's per-user limit", 38)
    assert refusal(pbs, home, *GOOD) == ("qsub: would exceed queue generic's per-user limit", 38)
    pbs.vanish_next()
    assert pbs.wait(submit(pbs, home, "true\n")) is None
    pbs.hold_jobs = True
    job = submit(pbs, home, "true\n")
    time.sleep(0.3)
    assert pbs.job(job)["job_state"] == "Q"
    pbs.hold_jobs = False
    assert pbs.wait(job)["Exit_status"] == 0
    assert [call[0] for call in pbs.calls()] == ["qsub"] * 3
    assert pbs.submissions[0]["argv"] == [*GOOD, "job.pbs"] and pbs.submissions[0]["cwd"] == str(home)


# ---------------------------------------------------------------- running jobs


def test_a_job_gets_the_environment_of_pbs_and_not_the_submitters(pbs, home):
    work = home / "work"
    work.mkdir()
    text = "pwd; env -0 > $OUT; cat $PBS_NODEFILE; hostname; wc -c < /dev/stdin; nvidia-smi -L | wc -l\n"
    text += "echo bad >&2\n"
    env = pbs.env(SECRET="1", ONE="1", OUT=str(home / "env"))
    flags = [*TWO, "-N", "probe", "-v", "OUT,TWO=a=b,LIST='x,y'"]
    done = pbs.run("qsub", *flags, script(work, text), cwd=work, env=env)
    job = pbs.wait(done.stdout.strip())
    assert job["Exit_status"] == 0
    assert (work / "probe.o0").read_text().split() == [str(home), A, B, A, "0", "4"]
    assert (work / "probe.e0").read_text() == "bad\n"
    seen = dict(item.split("=", 1) for item in (home / "env").read_text().split("\0") if item)
    real = {"PBS_ACCOUNT": "proj", "PBS_ENVIRONMENT": "PBS_BATCH", "PBS_JOBID": "0.polaris-login-01"}
    real |= {"PBS_O_HOST": "polaris-login-01", "PBS_O_QUEUE": "debug", "PBS_QUEUE": "debug"}
    real |= {"PBS_JOBNAME": "probe", "PBS_O_WORKDIR": str(work), "HOME": str(home), "USER": "user"}
    real |= {"TWO": "a=b", "LIST": "x,y", "OMP_NUM_THREADS": "1"}
    assert {name: seen.get(name) for name in real} == real
    assert "SECRET" not in seen and "ONE" not in seen and len(seen["TMPDIR"]) > 60


def test_output_goes_where_asked(pbs, home):
    (home / "logs").mkdir()
    text = "echo out; echo err >&2\n"
    pbs.wait(submit(pbs, home, text, [*GOOD, "-j", "oe", "-o", "logs/", "-V"]))
    assert (home / "logs/0.polaris-login-01.OU").read_text() == "out\nerr\n"
    pbs.wait(submit(pbs, home, text, [*GOOD, "-o", "x.out", "-e", str(home / "x.err")]))
    assert ((home / "x.out").read_text(), (home / "x.err").read_text()) == ("out\n", "err\n")
    job = pbs.wait(submit(pbs, home, text, [*GOOD, "-o", "nowhere/x.out"]))
    assert job["Exit_status"] == 0 and not (home / "nowhere").exists(), "it runs, and its output is lost"


def test_walltime_kill(start, home):
    pbs = start(walltime_scale=0.0025)
    code = 'import signal, time; signal.signal(15, lambda *_: print("TERM")); time.sleep(9)'
    job = pbs.wait(submit(pbs, home, f"python3 -u -c '{code}'\necho never\n"))
    assert (job["Exit_status"], job["substate"]) == (-29, 93)
    assert job["Resource_List"]["walltime"] == "00:10:00"
    assert (home / "job.pbs.o0").read_text() == "TERM\n"
    last = (home / "job.pbs.e0").read_text().splitlines()[-1]
    assert re.fullmatch(r"=>> PBS: job killed: walltime \d+ exceeded limit 600", last)


def test_chains(pbs, home):
    # Outcomes of walltime-and-chains.txt: b fails, c runs because of it, d can never run.
    flags = [*GOOD, "-q", "preemptable"]
    text = "exit ${CODE:-0}\n"
    pbs.hold_jobs = True
    b = submit(pbs, home, text, [*flags, "-v", "CODE=75"])
    c = submit(pbs, home, text, [*flags, "-W", f"depend=afternotok:{b}"])
    d = submit(pbs, home, text, [*flags, "-W", f"depend=afternotok:{c}"])
    e = submit(pbs, home, text, [*flags, "-W", f"depend=afterany:{d}"])
    held = pbs.run("qstat", "-f", c).stdout
    for line in (
        "job_state = H",
        "Hold_Types = s",
        "substate = 22",
        f"depend = afternotok:{b}@polaris-login-01",
    ):
        assert f"    {line}\n" in held
    pbs.hold_jobs = False
    ends = [pbs.wait(job) for job in (b, c, d, e)]
    assert [(job["substate"], job.get("Exit_status")) for job in ends] == [
        (93, 75),
        (92, 0),
        (92, None),
        (92, 0),
    ]
    late = submit(pbs, home, "true\n", [*flags, "-W", f"depend=afterok:{b}"])
    assert pbs.job(late)["job_state"] == "F" and "run_count" not in pbs.job(late)
    assert refusal(pbs, home, *flags, "-W", "depend=afterok:99") == (
        "qsub: Unknown Job Id 99.polaris-login-01",
        153,
    )


def test_qdel(pbs, home):
    flags = [*GOOD, "-q", "preemptable"]
    first = submit(pbs, home, "sleep 60 & wait\n", flags)
    pbs.wait(first, state="R")
    assert pbs.run("qdel", first).returncode == 0
    job = pbs.wait(first)
    assert (job["Exit_status"], job["substate"]) == (271, 91)
    assert job["comment"].endswith("and terminated by user@polaris-login-01")
    done = pbs.run("qstat", first)
    text = f"qstat: {first} Job has finished, use -x or -H to obtain historical job information\n"
    assert (done.stderr, done.returncode) == (text, 35)
    pbs.hold_jobs = True
    second = submit(pbs, home, "true\n", flags)
    assert pbs.run("qdel", second, first).returncode == 35
    assert pbs.job(second)["job_state"] == "F"


def test_what_a_job_leaves_behind_is_killed(pbs, home):
    text = "setsid sleep 60 & mkdir x; exit 3\n"
    assert pbs.wait(submit(pbs, home, text))["Exit_status"] == 3
    assert pbs.leftovers() == []


# ---------------------------------------------------------------- mpiexec and nodes

REPORT = (
    "import os, platform, socket; cpus = os.sched_getaffinity(0); "
    "print(platform.node() == socket.gethostname() == os.environ['STAND_IN_HOST'], platform.node(), "
    "os.environ['PMI_RANK'], os.environ['PMI_LOCAL_RANK'], os.environ['PMI_SIZE'], "
    "min(cpus), len(cpus), os.cpu_count())"
)


def output(pbs, home, text, flags=TWO):
    job = pbs.wait(submit(pbs, home, text, flags))
    return (
        sorted(Path(job["stdout_path"]).read_text().splitlines()),
        Path(job["stderr_path"]).read_text(),
        job,
    )


def test_ranks_on_two_nodes(pbs, home):
    bound = "--cpu-bind list:24-31,56-63:16-23,48-55"
    out, err, job = output(pbs, home, f'mpiexec -n 4 --ppn=2 {bound} --env X=1 python3 -c "{REPORT}"\n')
    assert (err, job["Exit_status"]) == ("", 0)
    assert out == [
        f"True {A} 0 0 4 24 16 64",
        f"True {A} 1 1 4 16 16 64",
        f"True {B} 2 0 4 24 16 64",
        f"True {B} 3 1 4 16 16 64",
    ]
    assert [(r["rank"], r["host"], r["cpus"]) for r in pbs.ranks()][1:3] == [
        (1, A, "16-23,48-55"),
        (2, B, "24-31,56-63"),
    ]


def test_what_mpiexec_refuses(pbs, home):
    outside = pbs.run("mpiexec", "-n", "1", "true")
    assert (outside.returncode, outside.stderr) == (1, "mpiexec: not inside a PBS job\n")
    calls = [
        "--bind-to none true",
        "-n 3 --ppn 1 true",
        f"--hosts {C} true",
        "-n 1 false",
        "-n 1 --cpu-bind all true",
    ]
    _, err, _ = output(pbs, home, "".join(f"mpiexec {call}; echo $? >&2\n" for call in calls))
    assert err.splitlines() == [
        "mpiexec: unrecognized option '--bind-to'",
        "2",
        "mpiexec: 3 ranks do not fit on 2 hosts with 1 a host",
        "1",
        f"mpiexec: host {C} is not in the allocation of job 0.polaris-login-01",
        "1",
        "1",
        "mpiexec: invalid value 'all' for option '--cpu-bind'",
        "2",
    ]
    one = "mpiexec -n 1 true\nunset TMPDIR\nmpiexec -n 1 true\nexport TMPDIR=/tmp\nmpiexec -n 1 echo ok\n"
    out, err, _ = output(pbs, home, one, GOOD)
    assert (out, err) == (["ok"], "OSError: AF_UNIX path too long\n" * 2)


def test_a_failing_rank_ends_the_others_and_sigterm_reaches_all(pbs, home):
    text = "mpiexec -n 2 --ppn 1 sh -c '[ $PMI_RANK = 0 ] && exit 7; sleep 60'; echo $?\n"
    text += (
        "mpiexec -n 2 --ppn 1 sh -c 'trap \"echo got; exit 0\" TERM; touch up.$PMI_RANK; sleep 60 & wait' &\n"
    )
    text += "until [ -e up.0 ] && [ -e up.1 ]; do sleep 0.05; done; kill $!; wait $!\n"
    out, _, job = output(pbs, home, text)
    assert out == ["7", "got", "got"] and job["Exit_status"] == 0


def test_affinity_is_remembered_and_inherited(pbs, home):
    code = (
        "import os, socket, subprocess, sys\n"
        "assert os.sched_getaffinity(0) == set(range(64))\n"
        "os.sched_setaffinity(0, {8, 9, 40})\n"
        "try:\n    os.sched_setaffinity(0, {64})\nexcept OSError as error:\n    print(error.errno)\n"
        "name = socket.gethostname()\n"
        "print(socket.gethostbyname(name), socket.getaddrinfo(name, 80)[0][4][0])\n"
        "subprocess.run([sys.executable, '-c', 'import os; print(os.sched_getaffinity(0))'])\n"
    )
    (home / "code.py").write_text(code)
    out, err, _ = output(pbs, home, "python3 -u code.py\n", GOOD)
    assert (out, err) == (["127.0.0.1 127.0.0.1", "22", "{8, 9, 40}"], "")


@pytest.mark.parametrize("abort", [False, True])
def test_a_node_dies(start, home, abort):
    pbs = start(abort_on_node_loss=abort)
    text = "mpiexec -n 2 --ppn 1 sh -c 'touch up.$PMI_RANK; sleep 1.5; echo rank $PMI_RANK'; echo end $?\n"
    job = submit(pbs, home, text, TWO)
    until(lambda: (home / "up.0").exists() and (home / "up.1").exists())
    pbs.kill_node(B)
    assert "     state = down\n" in pbs.run("pbsnodes", B).stdout
    assert pbs.wait(job)["Exit_status"] == 0
    kept = [] if abort else ["rank 0"]
    assert Path(pbs.job(job)["stdout_path"]).read_text().splitlines() == [*kept, "end 137"]
    assert pbs.wait(submit(pbs, home, "true\n", TWO))["nodes"] == [A, C]


@pytest.mark.parametrize("rerun", ["y", "n"])
def test_preemption(pbs, home, rerun):
    text = "echo run; trap 'echo warned' TERM; [ -e again ] && exit; touch again; sleep 60\n"
    job = submit(pbs, home, text, [*GOOD, "-q", "preemptable", "-r", rerun])
    until((home / "again").exists)
    pbs.preempt(job)
    end = pbs.wait(job)
    again = rerun == "y"
    assert (end["run_count"], end["Exit_status"]) == ((2, 0) if again else (1, 265))
    assert Path(end["stdout_path"]).read_text() == "run\n" * end["run_count"]


def test_losing_the_first_node_requeues(pbs, home):
    job = submit(pbs, home, "hostname >> hosts; [ $(wc -l < hosts) = 2 ] || sleep 60\n")
    until((home / "hosts").exists)
    pbs.kill_node(A)
    assert pbs.wait(job)["Exit_status"] == 0
    assert (home / "hosts").read_text().split() == [A, B]


def test_nothing_survives_the_stand_in(tmp_path, home):
    with PBS(tmp_path, home=home) as pbs:
        text = "export TMPDIR=/tmp; trap '' TERM; setsid sleep 60 &\nmpiexec -n 1 sh -c 'sleep 60'\n"
        submit(pbs, home, text)
        until(lambda: len(pbs.ranks()) == 1)
        assert len(pbs.leftovers()) >= 3
    assert pbs.leftovers() == []
    assert pbs.daemon.poll() is not None and os.path.isdir(pbs.folder)


# --- CUDA MPS, and MPI's process manager ---------------------------------------------------------
def test_the_mps_daemon_of_a_node_is_started_once_and_ends(tmp_path):
    with PBS(tmp_path) as pbs:
        folder = tmp_path / "mps"
        env = pbs.env(STAND_IN_HOST="x3001c0s1b0n0", CUDA_MPS_PIPE_DIRECTORY=str(folder))

        def control(*argv, say=None, env=env):
            return subprocess.run(
                ["nvidia-cuda-mps-control", *argv],
                input=say,
                env=env,
                capture_output=True,
                text=True,
                check=False,
            )

        assert control("-d").returncode == 1, "there is no such folder"
        folder.mkdir()
        missing = control(say="get_server_list\n")
        assert missing.returncode == 1 and missing.stdout == "Cannot find MPS control daemon process\n"
        assert control("-d").returncode == 0
        again = control("-d")
        assert again.returncode == 1 and again.stdout == "An instance of this daemon is already running\n"
        assert control(say="get_server_list\n").returncode == 0
        assert control(say="no such command\n").returncode == 1 and control("-x").returncode == 1
        assert control(say="quit\n").returncode == 0
        assert control(say="get_server_list\n").returncode == 1
        assert control("-d", env=pbs.env()).returncode == 1, "a login node has no GPU"


def test_no_two_mpiexec_of_one_process_number_share_a_name():
    """MPICH names its shared memory by it: ranks that find what killed ones left under the same name hang."""

    def name():
        end, _ = PMI(count=1, per_node=1, abort=None).rank()
        with end, end.makefile("rw") as pmi:
            pmi.write("cmd=get_my_kvsname\n")
            pmi.flush()
            return re.fullmatch(r"cmd=my_kvsname kvsname=(stand_in_\w+) rc=0\n", pmi.readline()).group(1)

    assert name() != name()
