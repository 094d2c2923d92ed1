"""Blocks and their workers, as Parsl's parts with what Polaris does to them taken into account.

config.py builds its executor and PBS provider of these; run.py's engine watches the blocks through `Blocks`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import threading
import time
from collections import deque
from concurrent.futures import Future
from pathlib import Path

from parsl.executors import HighThroughputExecutor
from parsl.executors.errors import ScalingFailed
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost
from parsl.jobs.errors import TooManyJobFailuresError
from parsl.jobs.states import JobState, JobStatus
from parsl.providers import PBSProProvider
from parsl.providers.torque.torque import translate_table
from parsl.serialize import serialize

from . import facts, interchange, machine, on_worker
from .ensemble import in_words
from .errors import FailedOnWorker, one_line, raised_by, root_of

NEVER_STARTED = (JobState.FAILED, JobState.MISSING)
SECONDS_BETWEEN_REFUSALS = 60  # before PBS is asked again for a block that it refused
LOST_MANAGERS, LOST_WORKERS = 10, 3  # tries that a task may lose with its node or block, with its worker
JOB_ID = re.compile(r"[0-9]+(\[\])?\.[A-Za-z0-9_.-]+")  # as qsub prints it
SILENCE = 60  # seconds that Parsl's interchange may leave questions unanswered

_failed = deque()  # tries that failed and that the engine has not recorded yet
_lost = []  # tries that were lost with a worker, node or block, in this process


class PartOfParslDied(TooManyJobFailuresError):
    """A thread or process of Parsl's that a run cannot do without."""


def losses():
    """In words, how many tries were lost with a worker, node or block so far in this process; or ""."""
    return f"{len(_lost)} tries lost with a worker, node or block, and made again" if _lost else ""


# --- parts of the Parsl configuration ------------------------------------------------------------
def retry_cost(error, task):
    """Parsl's retry_handler: what one failed try costs of `retries`, by its cause.

    A node or block that is lost (walltime, preemption, a crash) costs nothing, but a task that loses
    LOST_WORKERS workers or LOST_MANAGERS managers is taken to be the cause, and has failed. An error that
    the program would make every time is not tried again.
    """
    never = float("inf")
    if root_of(error) is not error:
        return never  # it waited for an app that failed, and never ran itself
    raised_by(task["func_name"], error)
    _failed.append((task["app_fu"], about_try(task, error)))
    if not on_worker.worth_another_try(error):
        return never
    for kind, most in ((WorkerLost, LOST_WORKERS), (ManagerLost, LOST_MANAGERS)):
        if isinstance(error, kind):
            _lost.append(error)
            if kind is WorkerLost and task["func_name"] == "run_group":
                return never  # one of its rows may be the cause: each is run on its own
            task[kind.__name__] = task.get(kind.__name__, 0) + 1
            return never if task[kind.__name__] >= most else 0
    return 1


def blocks_that_never_work(executor, status):
    """Parsl's block_error_handler: give up where blocks end before a worker connects.

    At once while no block has worked yet, after three in a row later on. Parsl's own handler gives up only
    where every block of the run has failed.
    """
    blocks = [state for _, state in sorted(status.items(), key=lambda item: int(item[0]))]
    ended = [state for state in blocks if state.terminal]
    in_a_row = 0
    while in_a_row < len(ended) and ended[-1 - in_a_row].state in NEVER_STARTED:
        in_a_row += 1
    alive = len(ended) < len(blocks)
    if in_a_row and not alive and in_a_row >= (3 if executor.connected_blocks() else 1):
        executor.set_bad_state_and_fail_all(TooManyJobFailuresError(str(ended[-1].message)))


def about_try(task, error=None):
    """What the record of tries says of a try that ended: {column of ensemble.RECORD: value}.

    task: Parsl's record of the task. Times are seconds since the epoch, `submitted` by the clock of the
    submit side, `started` and `ended` by the node's; a try that was lost has no start, and no worker but
    where one worker alone was lost.
    """
    future = task.get("exec_fu")
    about = {"app": task["func_name"], "try": task["try_id"], "status": "done" if error is None else "failed"}
    about |= {"submitted": getattr(future, "submitted", "")} | getattr(future, "ran", {})
    if error is not None:
        about["cause"] = one_line(error)
    if isinstance(error, WorkerLost | ManagerLost):
        about |= {"status": "lost", "host": error.hostname, "ended": round(time.time(), 3)}
        about["worker"] = getattr(error, "worker_id", "")
    return about


class Recording:
    """What makes an executor of Parsl's learn where and how long tasks run, whatever the app."""

    longest = 0.0  # seconds, of a task so far
    stranded = frozenset()  # blocks that have lost too many nodes for any task

    def prepared(self, resource_specification):
        """(what runs on the worker in place of the app, the specification that Parsl is given)"""
        return on_worker.timed, resource_specification

    def submit(self, func, resource_specification, *args, **kwargs):
        runner, specification = self.prepared(resource_specification)
        inner = super().submit(runner, specification, serialize(func), args, kwargs)
        outer = Future()
        outer.submitted = round(time.time(), 3)

        def unwrap(inner):
            result, error = None, inner.exception()
            try:
                if error is None:
                    told, outer.ran = inner.result()
                    self.longest = max(self.longest, outer.ran["seconds"])
                    result, error = on_worker.opened(told)
            except Exception as problem:  # in Parsl's thread, which must live on
                error = FailedOnWorker(type(problem).__name__, f"its result came broken: {problem}")
            if error is None:
                outer.set_result(result)
            else:
                outer.set_exception(error)

        inner.add_done_callback(unwrap)
        return outer

    def forget(self, block):
        """Have Parsl take the nodes of a block for lost at once: PBS says that it has ended."""
        with open(os.path.join(self.logdir, interchange.ENDED), "a") as file:
            file.write(f"{block}\n")


class Executor(Recording, HighThroughputExecutor):
    """HighThroughputExecutor with a pool of workers on each node of a block."""

    @property
    def pools_per_block(self):
        return self.provider.nodes_per_block

    @property
    def lanes_per_node(self):
        return int(self.workers_per_node)


class PolarisProvider(PBSProProvider):
    """PBSProProvider that notices a job PBS has lost, and does not ask again at once where PBS refused."""

    refused_at = -SECONDS_BETWEEN_REFUSALS
    refusal = None
    closed = False

    def __init__(self, **settings):
        super().__init__(**settings)
        self.submitting = threading.Lock()

    def submit(self, command, tasks_per_node, job_name="parsl"):
        with self.submitting:
            if self.closed or time.monotonic() < self.refused_at + SECONDS_BETWEEN_REFUSALS:
                raise self.refusal or ScalingFailed("htex", "the run is ending")
            try:
                return super().submit(command, tasks_per_node, job_name)
            except Exception as error:
                self.refused_at, self.refusal = time.monotonic(), error
                raise

    def close(self):
        """Submit no further job; one that is being submitted is waited for."""
        with self.submitting:
            self.closed = True

    def cancel(self, job_ids):
        """Delete jobs; Parsl's own provider takes one that has ended already for a failure of all of them."""
        if not job_ids:
            return []
        code, _, err = self.execute_wait("qdel " + " ".join(job_ids))
        said = {number: line for line in err.splitlines() for number in re.findall(r"([0-9]+)\.", line)[:1]}
        gone = []
        for job_id in job_ids:
            line = said.get(job_id.split(".")[0], "")
            deleted = not line and (code == 0 or bool(said))
            gone.append(deleted or "Job has finished" in line or "Unknown Job Id" in line)
            if gone[-1]:
                self.resources[job_id]["status"] = JobStatus(JobState.COMPLETED)
        return gone

    def execute_wait(self, cmd, timeout=None):
        """Run a command of PBS's; of what qsub prints, the job's id alone: a site may print notices too."""
        code, out, err = super().execute_wait(cmd, timeout)
        if code == 0 and cmd.startswith("qsub "):
            ids = [line.strip() for line in out.splitlines() if JOB_ID.fullmatch(line.strip())]
            if not ids:
                return 1, out, f"{err}\nqsub: no job id in what it printed: {out.strip()[:200]}"
            out = ids[-1]
        return code, out, err

    def _status(self):
        asked = [job_id for job_id, job in self.resources.items() if not job["status"].terminal]
        found, err = self._ask(asked) if asked else (None, "")
        if found is None:
            return  # PBS does not answer for now; Parsl asks again
        for job_id in asked:
            job, number = self.resources[job_id], job_id.split(".")[0]
            state, message = None, None
            if number in found:
                state = translate_table.get(found[number].get("job_state"), JobState.UNKNOWN)
                message = found[number].get("comment")
                # Parsl would ask for a further block in place of one that is held, beyond max_blocks.
                job["held"] = state == JobState.HELD
                state = JobState.PENDING if job["held"] else state
                for name in ("stime", "obittime"):
                    if name in found[number]:
                        job[name] = machine.pbs_time(found[number][name])
            elif f"Unknown Job Id {number}" in err and job["status"].state == JobState.RUNNING:
                state = JobState.COMPLETED  # ended, and already out of PBS's history
            elif f"Unknown Job Id {number}" in err:
                # qstat leaves with 153, and Parsl's own provider would wait for the job forever.
                state = JobState.FAILED
                message = f"PBS took job {job_id} and lost it (Unknown Job Id): no queue has room for it"
            if state is not None:
                files = {"stdout_path": job["job_stdout_path"], "stderr_path": job["job_stderr_path"]}
                job["status"] = JobStatus(state, message, **files)

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


# --- watching them -------------------------------------------------------------------------------
class Blocks:
    """The blocks of a running Parsl, for the engine: are there workers, how long yet, why not."""

    def __init__(self, dfk, mode, margin, threads=()):
        """threads: of Parsl's, which live as long as it does."""
        self.mode, self.margin_set = mode, margin
        self.threads, self.processes = list(threads), multiprocessing.active_children()
        self.silent_since = None  # when the interchange was asked what it has not answered yet
        self.executor = next(e for e in dfk.executors.values() if isinstance(e, Recording))
        self.provider = self.executor.provider
        self.per_pool = int(self.executor.workers_per_node)
        self.workers = self.provider.max_blocks * self.executor.pools_per_block * self.per_pool
        self.start, self.end = machine.times_of_job()
        self.next_look = time.monotonic() + 10
        self.next_sight = 0.0
        self.since = {}  # (block, state) -> when it was first seen so
        self.told = {}  # block -> what the run's log last said of it
        self.forgotten = set()  # blocks that have ended, as the interchange knows
        self.worked = self.seen_workers = False

    def about(self):
        """For the run's log: how large a block is, and the job that runs this."""
        nodes = self.provider.nodes_per_block
        job = {"job_start": self.start, "job_nodes": machine.nodes_of_job() if self.start else []}
        lanes = self.executor.lanes_per_node
        return {"nodes_per_block": nodes, "workers_per_node": lanes, "workers": self.workers, **job}

    def expected(self):
        """In words, what the run will have."""
        nodes = self.provider.nodes_per_block
        if self.mode == "blocks":
            jobs = f"up to {self.provider.max_blocks} job(s) of {nodes} node(s)"
            each = "node" if self.executor.pools_per_block == nodes else "job"
            return f"{jobs} in queue {self.provider.queue}, {self.per_pool} workers a {each}"
        where = "this machine" if self.mode == "local" else f"{nodes} node(s)"
        if self.mode == "local" and "CUDA_VISIBLE_DEVICES" in os.environ and machine.gpus():
            where += f" (GPUs: {machine.gpus_in_words()})"
        return f"{self.workers} worker{'s' * (self.workers != 1)} on {where}"

    def look(self):
        """What surrounds the tasks, as lines and for the run's log. PBS is not asked for it.

        Returns (lines about workers, blocks and time left; {block: what it is}).
        """
        ended = self._ended_blocks()
        managers = [m for m in self.executor.connected_managers() if m["block_id"] not in ended]
        workers, tasks = (sum(m[what] for m in managers) for what in ("worker_count", "tasks"))
        lines = [f"workers {workers} of {self.workers}, running {tasks}"]
        seen = {}
        for job, about in list(self.provider.resources.items()):
            state, block = about["status"].state, self.executor.job_ids_to_block.get(job, "?")
            mine = [manager["worker_count"] for manager in managers if manager["block_id"] == block]
            if about.get("held") and not about["status"].terminal:
                state = JobState.HELD
            elif mine and not about["status"].terminal:
                state = JobState.RUNNING  # PBS is asked once a minute, Parsl's interchange knows at once
            since = self.since.setdefault((job, state), time.time())
            seen[block] = {"job": job, "state": state.name, "workers": sum(mine)}
            seen[block] |= {"start": about.get("stime"), "end": about.get("obittime")}
            if about["status"].terminal or self.mode != "blocks":
                continue
            words = {JobState.PENDING: "waits", JobState.RUNNING: "runs", JobState.HELD: "is held"}
            line = f"block {block} (job {job.split('.')[0]}) {words.get(state, state.name.lower())}"
            line += f" since {time.strftime('%H:%M', time.localtime(since))}, "
            ends = (about.get("stime") or since) + facts.seconds(self.provider.walltime)
            if state == JobState.RUNNING:
                line += f"{sum(mine)} workers, ends in {in_words(max(0, ends - time.time()))}"
            else:
                line += f"for {in_words(time.time() - since)}"
                line += f": {about['status'].message.strip()}" if about["status"].message else ""
            lines.append(line)
        if _lost:
            lines.append(losses())
        if self.end is not None:
            left = in_words(max(0, self.end - time.time()))
            lines.append(f"the job ends at {time.strftime('%H:%M', time.localtime(self.end))}, in {left}")
        return lines, seen

    def _ended_blocks(self):
        """Blocks that PBS says have ended; what their nodes had in hand is handed out again now."""
        if self.mode != "blocks":
            return set()
        of_jobs = self.executor.job_ids_to_block
        ended = {
            of_jobs[job]
            for job, about in list(self.provider.resources.items())
            if about["status"].terminal and job in of_jobs
        }
        for block in ended - self.forgotten:
            self.executor.forget(block)
        self.forgotten |= ended
        return ended

    def tell(self, run):
        """Show in the run's view and note in its log how workers and blocks are."""
        asked = time.monotonic()
        looked = answered(self.look)
        if looked is None:
            self.silent_since = self.silent_since or asked
        else:
            self.silent_since = None
            run.around, seen = looked
            if not self.seen_workers and any(about["workers"] for about in seen.values()):
                self.seen_workers, run.start = True, time.monotonic()
            for block, about in seen.items():
                if about != self.told.get(block):
                    run.log("block", block=block, **about)
            self.told = seen

    def last_look(self, run):
        """Before the blocks are given back: ask PBS once more, when they started is in the report."""
        with contextlib.suppress(Exception):  # PBS may not answer, or the interchange be gone
            if self.mode == "blocks":
                self.provider._status()
            self.tell(run)

    about_try = staticmethod(about_try)

    def failed_tries(self):
        """Yield (future of the app, {column of the record: value}) of tries that failed since last asked."""
        while _failed:
            yield _failed.popleft()

    def asked(self):
        """Whether the first block was asked for, and the answer is there."""
        return bool(self.provider.resources) or self.broken()

    def margin(self):
        """Seconds before the end of a walltime in which no task is started."""
        if self.margin_set is not None:
            return self.margin_set
        return max(facts.SHORTEST_MARGIN, 1.5 * self.executor.longest)

    def watch(self, run):
        """Called by the engine every tick: stop it in time for the end of the job, or where nothing works."""
        run.note(self.ids())
        now = time.time()
        if self.end is not None and now > self.end - self.margin():
            if run.stopping is None:
                run.stop("the end of the walltime")
            elif now > self.end - min(15, self.margin() / 2):
                run.at_once = True
        self.look_for_dead_parts()
        if self.broken():
            if run.stopping is None:
                run.stop("no workers")
            run.at_once = True
        elif time.monotonic() > self.next_sight:
            self.next_sight = time.monotonic() + (5 if self.seen_workers else 1)
            self.tell(run)
        if self.executor.stranded:
            answered(lambda: self._give_up_stranded(run))
        self.worked = self.worked or run.ended > 0
        if time.monotonic() < self.next_look:
            return
        self.next_look = time.monotonic() + 10
        if self.mode == "blocks" and self.executor.drain_period is not None:
            # What later blocks are told: their last task starts a margin before their end.
            period = drain_period(self.provider.walltime, self.margin())
            command = self.executor.launch_cmd
            self.executor.launch_cmd = re.sub(r"--drain_period=\S+", f"--drain_period={period}", command)
        if not self.worked:
            self._look_for_dying_workers()

    def look_for_dead_parts(self):
        """End a run that would wait for ever for a part of Parsl's."""
        why = None if self.broken() else self._dead_part()
        if why:
            self.executor.set_bad_state_and_fail_all(PartOfParslDied(why))

    def _dead_part(self):
        """Which thread or process of Parsl's has ended or is silent, in words; None where all work."""
        ended = self.executor.interchange_proc.poll()
        if ended is not None:
            return f"Parsl's interchange ended ({ended}); was it killed, or out of memory?"
        for part in (*self.threads, *self.processes):
            if not part.is_alive():
                what = "thread" if part in self.threads else "process"
                logs = f"see parsl.log in {self.executor.run_dir}"
                return f"Parsl's {what} {part.name} ended, and no result would arrive any more: {logs}"
        silent = time.monotonic() - (self.silent_since or time.monotonic())
        if silent > SILENCE:
            return f"Parsl's interchange has not answered for {in_words(silent)}; is this machine overloaded?"
        return None

    def _give_up_stranded(self, run):
        """A block with too few nodes left gets no further task, and is given back once it is idle."""
        for manager in self.executor.connected_managers():
            if manager["block_id"] in self.executor.stranded:
                if manager["active"]:
                    self.executor._hold_manager(manager["manager"])
                elif not manager["tasks"] and self.mode == "blocks":
                    self.provider.cancel([self.executor.blocks_to_job_id[manager["block_id"]]])
                elif not manager["tasks"] and run.stopping is None:
                    run.stop("the loss of nodes: too few are left for a task")

    def _look_for_dying_workers(self):
        """A worker that dies at its start is started again every 15 s, while nodes are charged."""
        deaths = 0
        for log in Path(self.executor.worker_logdir).glob("block-*/*/manager.log"):
            with contextlib.suppress(OSError):
                deaths += len(re.findall(r"Worker \d+ has died", log.read_text(errors="replace")))
        if deaths - sum(isinstance(error, WorkerLost) for error in _lost) >= 2:  # the others had a task
            self.executor.set_bad_state_and_fail_all(TooManyJobFailuresError("workers die at their start"))

    def broken(self):
        """Whether there are no workers, and there will be none."""
        return self.executor.bad_state_is_set

    def reason(self):
        """Why it is broken, in one line: the words of PBS, else the end of the last block's stderr."""
        error = str(self.executor.executor_exception)
        status = sorted(self.executor.status_facade.items(), key=lambda item: int(item[0]))
        messages = [state.message or "" for _, state in status] + [error]
        said = re.findall(r"qsub: .*", "\n".join(messages))
        if said:
            block = f"{self.provider.nodes_per_block} node(s) for {self.provider.walltime}"
            block += f" in queue {self.provider.queue}"
            return f"{said[-1]}: {block}; mend config.py or wait, then run again"
        if "lost it" in error or isinstance(self.executor.executor_exception, PartOfParslDied):
            return f"{error}; run again to go on"
        what = "workers die at their start" if "workers die" in error else "ended before a worker connected"
        for block, _ in reversed(status):
            path = self._stderr(block)
            with contextlib.suppress(OSError, TypeError):
                lines = Path(path).read_text(errors="replace").split("\n")
                last = [line.strip() for line in lines if line.strip()][-3:]
                if last:
                    return f"block {block}: {what}: {' / '.join(last)} ({path})"
        return f"block {status[-1][0] if status else 0}: {what}; Parsl's logs: {self.executor.run_dir}"

    def _stderr(self, block):
        job = self.provider.resources.get(self.executor.blocks_to_job_id.get(block), {})
        return job.get("job_stderr_path") or f"{job.get('script_path')}.err"

    def drained(self):
        """Hold back every waiting task and block, then say whether no task runs any more."""
        return answered(self._hold_back) or False

    def _hold_back(self):
        self.provider.max_blocks = self.provider.init_blocks = 0
        managers = self.executor.connected_managers()
        connected = {manager["block_id"] for manager in managers}
        queued = [
            job
            for job, about in self.provider.resources.items()
            if about["status"].state in (JobState.PENDING, JobState.HELD)
            and self.executor.job_ids_to_block.get(job) not in connected
        ]
        if queued and self.mode == "blocks":
            self.provider.cancel(queued)
        free = [manager["manager"] for manager in managers if manager["active"]]
        for manager in free:
            self.executor._hold_manager(manager)
        # One that was free a moment ago may have been sent a task since.
        return not free and not any(manager["tasks"] for manager in managers)

    def ids(self):
        """Jobs or process ids of the blocks, for whoever has to clear up after a run that was killed."""
        return list(self.provider.resources)

    def abandon(self):
        """End everything without Parsl's own cleanup, which would wait for parts that PBS may have killed."""
        self.executor.interchange_proc.kill()
        return self.release()

    def release(self):
        """Delete what is left of the blocks, which Parsl leaves where it gave up; says so if it fails."""
        if self.mode == "blocks":
            self.provider.close()
        left = [job for job, about in self.provider.resources.items() if not about["status"].terminal]
        if left and not all(self.provider.cancel(left)) and self.mode == "blocks":
            return f"blocks may still be in PBS; delete them: qdel {' '.join(left)}"
        return None


def answered(question):
    """The answer of a function that asks Parsl's interchange; None if it takes longer than 3 s.

    PBS may have killed the interchange a moment ago, Parsl would wait for it forever, and PBS gives us 10 s.
    """
    answers = []
    asking = threading.Thread(target=lambda: answers.append(question()), daemon=True)
    asking.start()
    asking.join(3)
    return answers[0] if answers else None


def drain_period(walltime, margin):
    """Seconds after its start at which a block of that walltime takes no further task."""
    return max(30, int(facts.seconds(walltime) - margin))


def clear_up(mode, ids, run_dir):
    """End the blocks of a run that was killed; returns those that were still there."""
    if mode == "blocks":
        return [job for job in ids if machine.output("qdel", job) is not None]
    ended = []
    # A worker pool whose interchange died as it connected would wait for it forever.
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().decode(errors="replace")
            if "process_worker_pool.py" in command and f"--logdir={run_dir}/" in command:
                os.killpg(os.getpgid(int(process.name)), signal.SIGTERM)
                ended.append(f"process {process.name}")
    return ended
