"""Parts of the Parsl configuration, with what Polaris does to workers and blocks.

config.py builds its executors, its PBS provider and its retry policy of these.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError

from parsl.executors import HighThroughputExecutor
from parsl.executors.errors import BadStateException, ScalingFailed
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost
from parsl.jobs.errors import TooManyJobFailuresError
from parsl.jobs.states import JobState, JobStatus
from parsl.providers import PBSProProvider
from parsl.providers.torque.torque import translate_table

from . import facts, interchange, machine, on_worker, printed, sending
from .errors import FailedOnWorker, Unfinished, one_line, raised_by, root_of
from .time_limit import limit_of, past_limit

NEVER = float("inf")  # what a try costs that is the last one
LOST_MANAGERS = 10  # tries that a task may lose with its node or block
LOST_WORKERS = 3  # and with its worker
NEVER_STARTED = (JobState.FAILED, JobState.MISSING)
SECONDS_BETWEEN_REFUSALS = 60  # before PBS is asked again for a block that it refused
JOB_ID = re.compile(r"[0-9]+(\[\])?\.[A-Za-z0-9_.-]+")  # as qsub prints it
GROUP = on_worker.run_group.__name__


# --- tries ----------------------------------------------------------------------------------------
class RetryPolicy:
    """Parsl's retry_handler: what one failed try costs of `retries`, by its cause.

    A node or block that is lost (walltime, preemption, a crash) costs nothing, but a task that
    loses LOST_WORKERS workers or LOST_MANAGERS managers is taken to be the cause, and has failed.
    An error that the program would make every time is not tried again.

    on_try: None, or what is called with Parsl's record of the task and what `about_try` says of the
    try. is_shared: says by that record whether a task is for several rows, which are tried again
    otherwise. lost: tries that were lost with a worker, node or block so far; lost_workers: those
    with a worker alone.
    """

    def __init__(self, on_try: Callable[[dict, dict], None] | None = None):
        self.on_try = on_try
        self.is_shared = _is_group
        self.lost = 0
        self.lost_workers = 0
        self.counting = threading.Lock()

    def __call__(self, error: Exception, task: dict) -> float:
        if root_of(error) is not error:
            return NEVER  # it waited for an app that failed, and never ran itself
        if isinstance(error, Unfinished):
            return NEVER
        raised_by(task["func_name"], error)
        if self.on_try is not None:
            self.on_try(task, about_try(task, error))
        if isinstance(error, WorkerLost):
            return self._cost_of_lost_worker(task)
        if isinstance(error, ManagerLost):
            return self._cost_of_lost_manager(task)
        if self.is_shared(task):
            return NEVER  # its rows are run on their own, or in halves
        return 1 if on_worker.worth_another_try(error) else NEVER

    def _cost_of_lost_worker(self, task):
        with self.counting:
            self.lost += 1
            self.lost_workers += 1
        if self.is_shared(task):
            return NEVER  # one of its rows may be the cause
        return _cost_of_loss(task, "lost_workers", LOST_WORKERS)

    def _cost_of_lost_manager(self, task):
        with self.counting:
            self.lost += 1
        return _cost_of_loss(task, "lost_managers", LOST_MANAGERS)


def _is_group(task):
    return task["func_name"] == GROUP


def _cost_of_loss(task, what, most):
    task[what] = task.get(what, 0) + 1
    return NEVER if task[what] >= most else 0


def about_try(task: dict, error: Exception | None = None) -> dict:
    """What the record of tries says of a try that ended: {column: value}.

    task: Parsl's record of the task. Times are seconds since the epoch, `submitted` by the clock of
    the submit side, `started` and `ended` by the node's; a try that was lost has no start, and no
    worker but where one worker alone was lost.
    """
    about = {
        "app": task["func_name"],
        "executor": task["executor"],
        "try": task["try_id"],
        "status": "done" if error is None else "failed",
        "submitted": "",
    }
    future = task.get("exec_fu")
    if _is_of_try(future, error):
        about["submitted"] = getattr(future, "submitted", "")
        about |= getattr(future, "ran", {})
    if error is not None:
        about["cause"] = one_line(error)
    if isinstance(error, WorkerLost | ManagerLost):
        about["status"] = "lost"
        about |= _place_of_loss(error)
    return about


def _is_of_try(future, error):
    """Whether it is that of the try that ended so, not of the one before."""
    return future is not None and future.done() and future.exception() is error


def _place_of_loss(error):
    return {
        "host": error.hostname,
        "worker": getattr(error, "worker_id", ""),
        "ended": round(time.time(), 3),
    }


# --- executors ------------------------------------------------------------------------------------
class Recording:
    """What makes an executor of Parsl's learn where and how long tasks run, whatever the app.

    longest: seconds, of a task so far. spawned: why workers were started one by one, "" where they
    were not. stranded: blocks that have lost too many nodes for any task.
    """

    def __init__(self, *given, **settings):
        super().__init__(*given, **settings)
        self.longest = 0.0
        self.spawned = ""
        self.stranded = set()
        self.seen_files = set()  # of workers that died
        self.looking = threading.Lock()

    @property
    def prints_folder(self) -> str:
        """Where each worker has its files of what tasks print; see printed.py."""
        logs = os.path.abspath(self.worker_logdir)
        return os.path.join(logs, "printed")

    def prepared(self, resource_specification: dict) -> tuple[dict, dict]:
        """Parsl's task_executor: what runs on the worker around the app; and what Parsl is told."""
        self.validate_resource_spec(resource_specification)
        runner = {"f": "polaris.on_worker.execute", "a": (self.prints_folder,)}
        return runner, resource_specification

    def submit(self, func: Callable, resource_specification: dict, *args, **kwargs) -> Future:
        """A future with `submitted`; once ended, `ran`: {column of the record: value}, and `size`:
        bytes of what came back.
        """
        if self.bad_state_is_set:
            raise self._unfinished()
        runner, specification = self.prepared(resource_specification)
        context = {"task_executor": runner}
        if specification:
            context["resource_spec"] = specification
        buffer = sending.task(func, args, kwargs)
        inner = self.submit_payload(context, buffer)
        outer = Future()
        outer.submitted = round(time.time(), 3)
        limit = _limit_in(func, args)
        inner.add_done_callback(functools.partial(self._ended, outer, limit))
        return outer

    def _ended(self, outer, limit, inner):
        """In Parsl's thread of results, which must live on."""
        result = None
        error = inner.exception()
        try:
            if error is None:
                told, outer.ran = on_worker.reply_in(inner.result())
                self.spawned = outer.ran.pop("spawned", self.spawned)
                self.longest = max(self.longest, outer.ran["seconds"])
                outer.size = on_worker.size_of(told)
                result, error = on_worker.opened(told)
            elif isinstance(error, WorkerLost):
                error = self._of_lost_worker(error, limit, outer)
            elif isinstance(error, BadStateException):
                error = self._unfinished()
        except Exception as problem:
            kind = type(problem).__name__
            error = FailedOnWorker(kind, f"its result came broken: {problem}")
        if error is None:
            outer.set_result(result)
        else:
            outer.set_exception(error)

    def set_bad_state_and_fail_all(self, exception: Exception) -> None:
        """As Parsl's, which stumbles over results that come at the same time: every task ends."""
        with contextlib.suppress(RuntimeError, InvalidStateError):
            super().set_bad_state_and_fail_all(exception)
        for future in list(self.tasks.values()):
            with contextlib.suppress(InvalidStateError):  # it has ended by itself
                future.set_exception(BadStateException(self, exception))

    def _unfinished(self):
        """What its tasks end with once it was given up, and none of them runs any more."""
        why = self.executor_exception
        return why if isinstance(why, Unfinished) else Unfinished(f"{self.label}: {why}")

    def _of_lost_worker(self, lost, limit, outer):
        """The error of a task whose worker died; a TimeoutError where its limit of time did it."""
        if limit is not None:
            stacks = self._new_file_of(lost, printed.STACKS)
            if stacks is not None:
                outer.ran = _place_of_loss(lost)
                told = f"its worker was ended; where it was then: {stacks}"
                error = TimeoutError(f"{past_limit(limit)}, and {told}")
                error.printed = printed.end_of(stacks.with_suffix(printed.TEXT))
                return error
        text = self._new_file_of(lost, printed.TEXT)
        lost.printed = printed.end_of(text) if text is not None else ""
        return lost

    def _new_file_of(self, lost, ending):
        with self.looking:
            folder = self.prints_folder
            for path in printed.files_of(folder, lost.hostname, lost.worker_id, ending):
                if path not in self.seen_files:
                    self.seen_files.add(path)
                    self.seen_files.add(path.with_suffix(printed.TEXT))
                    return path
        return None

    def forget(self, block: str) -> None:
        """Have Parsl take the nodes of a block for lost at once: PBS says that it has ended."""
        path = os.path.join(self.logdir, interchange.ENDED)
        with open(path, "a") as file:
            file.write(f"{block}\n")


def _limit_in(function, args):
    """The limit of time of a task, or of each row of a group."""
    limit = limit_of(function)
    if limit is None and args and isinstance(args[0], sending.Function):
        limit = limit_of(args[0].function)
    return limit


class Executor(Recording, HighThroughputExecutor):
    """HighThroughputExecutor with a pool of workers on each node of a block."""

    @property
    def pools_per_block(self) -> int:
        return self.provider.nodes_per_block

    @property
    def lanes_per_node(self) -> int:
        return int(self.workers_per_node)


def blocks_that_never_work(executor, status: dict) -> None:
    """Parsl's block_error_handler: give up where blocks end before a worker connects.

    At once while no block has worked yet, after three in a row later on. Parsl's own handler gives
    up only where every block of the run has failed.
    """
    blocks = [status[block] for block in sorted(status, key=int)]
    ended = [state for state in blocks if state.terminal]
    in_a_row = 0
    for state in reversed(ended):
        if state.state not in NEVER_STARTED:
            break
        in_a_row += 1
    if not in_a_row or len(ended) < len(blocks):
        return
    enough = 3 if executor.connected_blocks() else 1
    if in_a_row >= enough:
        reason = TooManyJobFailuresError(str(ended[-1].message))
        executor.set_bad_state_and_fail_all(reason)


# --- blocks ---------------------------------------------------------------------------------------
def drain_period(walltime: str, margin: float) -> int:
    """Seconds after its start at which a block of that walltime (H:MM:SS) takes no further task."""
    period = facts.seconds(walltime) - margin
    return max(30, int(period))


class PolarisProvider(PBSProProvider):
    """PBSProProvider that notices a job PBS has lost, and asks later where PBS has refused."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.submitting = threading.Lock()
        self.refused_at = -SECONDS_BETWEEN_REFUSALS
        self.refusal = None
        self.closed = False

    def submit(self, command: str, tasks_per_node: int, job_name: str = "parsl") -> str:
        with self.submitting:
            if self.closed or time.monotonic() < self.refused_at + SECONDS_BETWEEN_REFUSALS:
                raise self.refusal or ScalingFailed(job_name, "the run is ending")
            try:
                return super().submit(command, tasks_per_node, job_name)
            except Exception as error:
                self.refused_at = time.monotonic()
                self.refusal = error
                raise

    def close(self) -> None:
        """Submit no further job; one that is being submitted is waited for."""
        with self.submitting:
            self.closed = True

    def cancel(self, job_ids: list[str]) -> list[bool]:
        """Delete jobs; whether each is gone. To Parsl, one that had ended is a failure of all."""
        if not job_ids:
            return []
        code, _, err = self.execute_wait("qdel " + " ".join(job_ids))
        said = _line_of_each(err)
        gone = []
        for job_id in job_ids:
            line = said.get(job_id.split(".")[0], "")
            deleted = not line and (code == 0 or bool(said))
            ended = "Job has finished" in line or "Unknown Job Id" in line
            gone.append(deleted or ended)
            if gone[-1]:
                self.resources[job_id]["status"] = JobStatus(JobState.COMPLETED)
        return gone

    def execute_wait(self, cmd: str, timeout: float | None = None) -> tuple[int, str, str]:
        """Run a command of PBS's; of what qsub prints, the job's id alone: there may be notices."""
        code, out, err = super().execute_wait(cmd, timeout)
        if code != 0 or not cmd.startswith("qsub "):
            return code, out, err
        lines = [line.strip() for line in out.splitlines()]
        ids = [line for line in lines if JOB_ID.fullmatch(line)]
        if not ids:
            strange = out.strip()[:200]
            return 1, out, f"{err}\nqsub: no job id in what it printed: {strange}"
        return code, ids[-1], err

    def _status(self):
        asked = []
        for job_id, job in self.resources.items():
            if not job["status"].terminal:
                asked.append(job_id)
        if not asked:
            return
        found, err = self._ask(asked)
        if found is None:
            return  # PBS does not answer for now; Parsl asks again
        for job_id in asked:
            job = self.resources[job_id]
            number = job_id.split(".")[0]
            if number in found:
                self._note(job, found[number])
            elif f"Unknown Job Id {number}" in err:
                _set_status(job, *_of_unknown(job_id, job))

    def _ask(self, job_ids):
        """({number: {attribute: value}} or None, what qstat complained of) of these jobs."""
        ids = " ".join(job_ids)
        _, out, err = self.execute_wait(f"qstat -x -f -F json {ids}")
        found = machine.jobs_in(out)
        if found is None and out.strip():  # no JSON, as of some servers
            _, out, err = self.execute_wait(f"qstat -x -f {ids}")
            found = machine.jobs_in(out)
            if found is None and "Unknown Job Id" in err:
                found = {}
        return found, err

    def _note(self, job, said):
        """Keep what PBS says of a job."""
        state = translate_table.get(said.get("job_state"), JobState.UNKNOWN)
        # Parsl would ask for a further block in place of one that is held, beyond max_blocks.
        job["held"] = state == JobState.HELD
        if job["held"]:
            state = JobState.PENDING
        for name in ("stime", "obittime"):
            if name in said:
                job[name] = machine.pbs_time(said[name])
        _set_status(job, state, said.get("comment"))


def _of_unknown(job_id, job):
    """(state, message) of a job that PBS does not know."""
    if job["status"].state == JobState.RUNNING:
        return JobState.COMPLETED, None  # ended, and already out of PBS's history
    # qstat leaves with 153, and Parsl's own provider would wait for the job forever.
    why = "no queue has room for it"
    return JobState.FAILED, f"PBS took job {job_id} and lost it (Unknown Job Id): {why}"


def _set_status(job, state, message):
    job["status"] = JobStatus(
        state,
        message,
        stdout_path=job["job_stdout_path"],
        stderr_path=job["job_stderr_path"],
    )


def _line_of_each(text):
    """{number of a job: the line that qdel complains of it in}"""
    said = {}
    for line in text.splitlines():
        numbers = re.findall(r"([0-9]+)\.", line)
        if numbers:
            said[numbers[0]] = line
    return said
