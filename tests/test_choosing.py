"""Some rows first, some results anew: `--only` and `--again` as a scientist types them, in programs of several maps."""

import collections
import re
import textwrap

import pytest
from conftest import NOTE, results, user

pytestmark = pytest.mark.slow

LOCAL = "python run.py --mode local"
APPS = (
    NOTE
    + """
from parsl import python_app


@python_app
def ising(temperature, seed):
    note("ising", temperature, seed)
    return {"value": 10 * temperature + seed}


@python_app
def calibrate(gpu_clock):
    note("calibrate", gpu_clock)
    return 2 * gpu_clock


@python_app
def embed(text):
    if "bad" in text:
        raise ValueError("bad luck")
    return len(text)


@python_app(cache=True)
def simulate(temperature, seed):
    note("simulate", temperature, seed)
    return temperature


@python_app
def score(rows):
    from polaris.batch_files import batch_file

    with batch_file("results/scores", rows, ".txt") as path:
        open(path, "w").write(str([row["temperature"] for row in rows]))
    return path.places
"""
)
RUN = """
import sys
from polaris import cli
from polaris.sources import lines, table
import apps

sweep = table("inputs/sweep.csv", temperature=float, seed=int)
clocks = table("inputs/clocks.csv", gpu_clock=int)


def main(run):
{body}


if __name__ == "__main__":
    sys.exit(cli.main(main, {given}))
"""
TWO_MAPS = """
    found = list(run.map(apps.ising, sweep))
    clock = list(run.map(apps.calibrate, clocks, table="clocks"))
    print("ROWS", sorted((row["temperature"], row["seed"]) for row in found), len(clock))
"""


def write(project, body, given="sweep, clocks"):
    """A program over the rows of a sweep, 2 temperatures and 3 seeds, and of 4 GPU clocks."""
    (project / "apps.py").write_text(APPS.replace("LEDGER", str(project / "ledger")))
    body = textwrap.indent(textwrap.dedent(body).strip(), "    ")
    (project / "run.py").write_text(RUN.format(body=body, given=given))
    rows = [f"{t},{seed}\n" for t in (2.2, 2.3) for seed in (1, 2, 3)]
    (project / "inputs" / "sweep.csv").write_text("temperature,seed\n" + "".join(rows))
    (project / "inputs" / "clocks.csv").write_text("gpu_clock\n765\n1095\n1275\n1410\n")


def ran(project, options="", status=0):
    """Run with some options; returns what it said, without what it says where all is done."""
    ended = user(project, f"{LOCAL} {options}")
    assert ended.returncode == status and "Traceback" not in ended.stdout, ended.stdout
    return ended.stdout


def computed(project):
    path = project / "ledger"
    return collections.Counter(path.read_text().split() if path.exists() else [])


def test_a_value_of_one_map_leaves_the_other_whole_and_the_end_says_what_is_a_part(project):
    write(project, TWO_MAPS)
    said = ran(project, "--only seed=3")
    assert "ROWS [(2.2, 3), (2.3, 3)] 4\n" in said, "the clocks have no seed: none of them is left out"
    assert "inputs/sweep.csv: 2 tasks chosen by --only seed=3, of 6 rows" in said
    assert "inputs/clocks.csv (clocks): 4 tasks; they have no column seed for --only seed=3" in said
    assert "2 of 2 tasks done, of a part of the rows, in " in said and "4 of 4 tasks done, in " in said
    made = "what the program printed, drew and wrote is of these alone"
    assert said.splitlines()[-1] == f"a part only, --only seed=3: 2 of 6 rows of inputs/sweep.csv; {made}"
    assert user(project, "python -m polaris.report").returncode == 0
    page = (project / "results" / "report.html").read_text()
    assert "finished, a part of the rows alone (--only seed=3)." in page
    # A number is of each map.
    said = ran(project, "--only 2")
    assert "ROWS [(2.2, 1), (2.2, 2)] 2\n" in said
    assert "2 of 6 rows of inputs/sweep.csv, 2 of 4 rows of inputs/clocks.csv (clocks)" in said
    # All rows, by whatever option, are no part.
    assert "a part" not in ran(project, "--only 6") and set(computed(project).values()) == {1}


def test_several_only_hold_together_and_what_is_not_understood_is_refused_before_anything_runs(project):
    write(project, TWO_MAPS)
    expected = {
        "--only seed=4": "inputs/sweep.csv: no row is chosen by --only seed=4; seed is 1, 2, 3",
        "--only seed=3 --only gpu_clock=1": "no row is chosen by --only seed=3 --only gpu_clock=1; gpu_clock is 765, ",
        "--only sed=3": "--only sed=3: no input has a column sed; there are gpu_clock, seed, temperature",
        "--only 3 --only 4": "--only 3 --only 4: gives two numbers of rows: give one",
        "--only temperature=2.2,2.3": "of several values each has its column: temperature=...,temperature=2.3",
        "--status --only 3": "--status --only: --status shows something and runs nothing: give it alone",
    }
    for typed, refusal in expected.items():
        said = ran(project, typed, status=2)
        assert refusal in said and len(said.splitlines()) == 1, f"{typed}: {said}"
    assert not computed(project) and not (project / "runinfo").exists()
    rows = "ROWS [(2.2, 1), (2.2, 3)] 1\n"
    assert rows in ran(project, "--only seed=1 --only seed=3 --only temperature=2.2 --only gpu_clock=765")
    assert rows in ran(project, "--only seed=1,seed=3,temperature=2.2,gpu_clock=765")
    assert "ROWS [(2.2, 3)] 1\n" in ran(project, "--only 1 --only seed=3")
    assert set(computed(project).values()) == {1}


def test_rows_that_the_program_itself_gives_or_reads_are_chosen_too(project):
    write(project, """
        given = run.map(apps.ising, [dict(row) for row in sweep])
        def endless():
            clock = 0
            while True:
                clock += 1
                yield {"gpu_clock": clock}
        once = run.map(apps.calibrate, endless(), table="once")
        found = [apps.simulate(**row) for row in sweep]
        print("ROWS", len(list(given)), len(list(once)), [future.result() for future in found])
    """)  # fmt: skip
    said = ran(project, "--only 2")
    assert "ROWS 2 2 [2.2, 2.2]\n" in said, "the endless rows are read no further than needed"
    assert "2 of the rows given (once), which were read no further" in said
    # A name that no rows have is a slip of the pen, not a reason to run all: here nothing is given to cli.main.
    write(project, 'print("ROWS", len(run.map(apps.ising, [{"temperature": 2.2, "seed": 1}])))', given="")
    wrong = "the rows given has no row with a column sed; there are seed, temperature"
    assert f"--only sed=3: {wrong}" in ran(project, "--only sed=3", status=2)
    # A comma may be part of a value.
    texts = [{"text": "a,b"}, {"text": "c"}, {"text": "b"}]
    write(
        project,
        f'print("ROWS", sorted(row["text"] for row in run.map(apps.embed, {texts}, table="texts")))',
        given="",
    )
    assert "with a comma in a value: '\"text=...,...\"'" in ran(project, "--only text=a,b", status=2)
    assert "ROWS ['a,b', 'c']\n" in ran(project, """--only '"text=a,b"' --only text=c""")
    write(project, "print(apps.simulate(2.2, 1).result())", given="")
    said = ran(project, "--only 2")
    assert said.splitlines()[-1].startswith("--only 2 chose nothing: ") and "a part" not in said


def test_again_sets_aside_the_results_of_the_rows_of_this_run_alone(project):
    write(project, TWO_MAPS.replace("clock = ", "clock = [] and "), given="sweep")
    other = project / "inputs" / "other.csv"
    other.write_text("temperature,seed\n3.1,1\n3.2,1\n")
    assert "ROWS [(3.1, 1), (3.2, 1)]" in ran(project, "inputs/other.csv")
    ran(project)
    said = ran(project, "--again ising")
    assert "results/results.csv: 6 results will be computed anew" in said
    assert "2 of rows that this run has not are kept" in said
    again = {name for name, times in computed(project).items() if times == 2}
    assert len(again) == 6 and not any("-3." in name for name in again) and len(results(project)) == 8
    # With --only, of what that chooses; by what an app returned, too.
    assert "results.csv: 2 results will" in ran(project, "--again ising --only seed=2")
    typed = "--again seed=2,seed=3 --again temperature=2.2,value=24.0"
    assert "results.csv: 1 result will" in ran(project, typed)
    refused = ran(project, "--again temperature=3.1", status=2)
    assert "none of its 1 results is of a row that this run has" in refused
    assert len(results(project)) == 8


@pytest.mark.parametrize("typed", ["--again simulate --only seed=2", "--again seed=2"])
def test_rows_of_a_cached_app_are_computed_anew_not_found_in_its_cache(project, typed):
    body = 'print("ROWS", apps.simulate(9.9, 1).result(), len(list(run.map(apps.simulate, sweep))))'
    write(project, body, given="sweep")
    assert "ROWS 9.9 6\n" in ran(project)
    said = ran(project, typed)
    assert "results.csv: 2 results will be computed anew" in said
    given_up = "7 cached results of simulate, of other rows and calls too, are not used any more"
    assert given_up in said and "found again" not in said
    # The other rows have their results in the table; the call of no row is made again.
    again = {"simulate-2.2-2", "simulate-2.3-2", "simulate-9.9-1"}
    assert {name for name, times in computed(project).items() if times == 2} == again
    assert "ROWS 9.9 6\n" in ran(project) and sum(computed(project).values()) == 10
    # A row may also be what a function makes of cached calls: those are found again, and that is said.
    write(project, """
        def task(row):
            return apps.ising(apps.simulate(row["temperature"], 1), row["seed"])
        print("ROWS", len(list(run.map(task, sweep, table="made"))))
    """, given="sweep")  # fmt: skip
    ran(project)
    before = computed(project)
    said = ran(project, "--again task")
    assert "made.csv: 6 results will" in said
    assert "--again task: what task takes of apps with cache=True is found again" in said
    assert {name for name, times in computed(project).items() if times > before[name]} == {
        f"ising-{temperature}-{seed}" for temperature in (2.2, 2.3) for seed in (1, 2, 3)
    }


def test_a_failure_names_its_file_and_line_there_and_on_the_screen(project):
    write(project, 'run.map(apps.embed, lines("inputs/*.txt"), table="text").wait()')
    for name, text in (("a", "one\ntwo\nthree\n"), ("b", "four\nbad five\n")):
        (project / "inputs" / f"{name}.txt").write_text(text)
    said = ran(project, status=1)
    assert "the last one: inputs/b.txt line 2 (text): ValueError: bad luck" in said
    (failure,) = results(project, "text-failures.csv")
    assert (failure["file"], failure["line"]) == ("inputs/b.txt", "2")
    # tasks.csv counts over all files, and the report finds the trace of a failure by that.
    assert [row["line"] for row in results(project, "tasks.csv") if row["status"] == "failed"][-1] == failure[
        "row"
    ]
    shown = user(project, "python -m polaris.report").stdout
    assert (
        "opens in any browser" in shown
        and failure["trace"] in (project / "results" / "report.html").read_text()
    )


def test_a_file_of_a_batch_that_is_gone_is_named_with_all_its_rows_and_made_anew(project):
    write(project, 'print("ROWS", len(list(run.map(apps.score, sweep, batch=6))))')
    ran(project)
    found = results(project)
    gone = found[0]["file"]
    (project / gone).unlink()
    lines = [i for i, row in enumerate(found, 2) if row["file"] == gone]
    said = ran(project, status=2)
    rows = f"{len(lines)} row{'s' * (len(lines) > 1)}"
    assert f"results/results.csv: the file {gone} is gone, with results of {rows}, line" in said
    command = re.search(r"python run.py (--again \S+) computes them anew", said)[1]
    assert command == f"--again file={gone}"
    said = ran(project, command)
    assert f"{len(lines)} result" in said and "ROWS 6" in said
    assert all((project / row["file"]).exists() for row in results(project))


def test_status_shows_the_file_that_is_asked_for_and_the_rows_of_the_first_map(project):
    write(project, TWO_MAPS)
    ran(project, "--only seed=3")
    assert "inputs/sweep.csv: done 2, left 4 of 6" in ran(project, "--status")
    write(project, TWO_MAPS.replace("clock = ", "clock = [] and "), given="sweep")
    (project / "inputs" / "other.csv").write_text("temperature,seed\n3.1,1\n2.2,3\n")
    assert "inputs/other.csv: done 1, left 1 of 2" in ran(project, "inputs/other.csv --status")
