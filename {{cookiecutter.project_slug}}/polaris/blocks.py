"""Blocks and their workers: what is seen of them, and what that means for the run. It decides
nothing.

A `Blocks` looks after one of Parsl's executors; `Parts` tells which part of Parsl's has ended.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from parsl.jobs.errors import TooManyJobFailuresError
from parsl.jobs.states import JobState

from . import facts, machine
from .parsl_parts import drain_period

SILENCE = 60  # seconds that Parsl's interchange may leave questions unanswered
ANSWER = 3  # seconds that its answer is waited for
WORDS = {JobState.PENDING: "waits", JobState.RUNNING: "runs", JobState.HELD: "is held"}


class PartOfParslDied(TooManyJobFailuresError):
    """A thread or process of Parsl's that a run cannot do without."""


class Seen(NamedTuple):
    """What surrounds the tasks of an executor: lines for the user, {block: what it is} for the
    run's log.
    """

    lines: list
    blocks: dict
    workers: int
    running: int


class Blocks:
    """Watches over the blocks of one executor. margin: seconds, None where it is learnt."""

    def __init__(self, executor, mode: str, margin: int | None):
        self.executor = executor
        self.provider = executor.provider
        self.mode = mode
        self.label = executor.label
        self.margin_set = margin
        self.per_pool = int(executor.workers_per_node)
        self.takes_groups = not executor.enable_mpi_mode
        self.workers = self._most_workers()
        self.silent_since = None
        self.since = {}  # (block, state) -> when it was first seen so
        self.forgotten = set()  # blocks that have ended, as the interchange knows
        self.seen_workers = False

    def _most_workers(self):
        blocks = self.provider.max_blocks if self.mode == "blocks" else 1
        return blocks * self.executor.pools_per_block * self.per_pool

    def about(self) -> dict:
        """For the run's log: how large a block is."""
        nodes = self.provider.nodes_per_block
        return {
            "nodes_per_block": nodes,
            "workers_per_node": self.executor.lanes_per_node,
            "workers": self.workers,
        }

    def expected(self) -> str:
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

    # --- what is seen -----------------------------------------------------------------------------
    def look(self) -> Seen | None:
        """What surrounds the tasks; None where the interchange does not answer. PBS is not asked
        for it.
        """
        asked = time.monotonic()
        seen = answered(self._look)
        if seen is None:
            self.silent_since = self.silent_since or asked
        else:
            self.silent_since = None
            self.seen_workers = self.seen_workers or seen.workers > 0
        return seen

    def _look(self):
        ended = self._ended_blocks()
        managers = [m for m in self.executor.connected_managers() if m["block_id"] not in ended]
        workers = sum(m["worker_count"] for m in managers)
        running = sum(m["tasks"] for m in managers)
        lines = [f"workers {workers} of {self.workers}, running {running}"]
        blocks = {}
        for job, about in list(self.provider.resources.items()):
            block = self.executor.job_ids_to_block.get(job, "?")
            mine = [m["worker_count"] for m in managers if m["block_id"] == block]
            state = self._state_of(about, mine)
            since = self.since.setdefault((job, state), time.time())
            blocks[block] = {
                "job": job,
                "state": state.name,
                "workers": sum(mine),
                "start": about.get("stime"),
                "end": about.get("obittime"),
            }
            if self.mode == "blocks" and not about["status"].terminal:
                lines.append(self._line(block, job, about, state, since, sum(mine)))
        return Seen(lines, blocks, workers, running)

    def _state_of(self, about, mine):
        status = about["status"]
        if status.terminal:
            return status.state
        if about.get("held"):
            return JobState.HELD
        # PBS is asked once a minute, Parsl's interchange knows at once.
        return JobState.RUNNING if mine else status.state

    def _line(self, block, job, about, state, since, workers):
        """A block of its own job, in words."""
        number = job.split(".")[0]
        word = WORDS.get(state, state.name.lower())
        clock = time.strftime("%H:%M", time.localtime(since))
        line = f"block {block} (job {number}) {word} since {clock}, "
        if state == JobState.RUNNING:
            start = about.get("stime") or since
            ends = start + facts.seconds(self.provider.walltime)
            left = max(0, ends - time.time())
            return line + f"{workers} workers, ends in {facts.in_words(left)}"
        line += f"for {facts.in_words(time.time() - since)}"
        message = about["status"].message
        return f"{line}: {message.strip()}" if message else line

    def _ended_blocks(self):
        """Blocks that PBS says have ended; what their nodes had in hand is handed out again now."""
        if self.mode != "blocks":
            return set()
        of_jobs = self.executor.job_ids_to_block
        ended = set()
        for job, about in list(self.provider.resources.items()):
            if about["status"].terminal and job in of_jobs:
                ended.add(of_jobs[job])
        for block in ended - self.forgotten:
            self.executor.forget(block)
        self.forgotten |= ended
        return ended

    def ask_pbs(self) -> None:
        """Have PBS asked once more, when blocks started and ended."""
        if self.mode == "blocks":
            self.provider._status()

    # --- what it means ----------------------------------------------------------------------------
    def margin(self) -> float:
        """Seconds before the end of a walltime in which no task is started."""
        if self.margin_set is not None:
            return self.margin_set
        return max(facts.SHORTEST_MARGIN, 1.5 * self.executor.longest)

    def broken(self) -> bool:
        """Whether there are no workers, and there will be none."""
        return self.executor.bad_state_is_set

    def silent(self) -> str | None:
        """Why nothing would be heard of workers any more, in words; None where all is well."""
        ended = self.executor.interchange_proc.poll()
        if ended is not None:
            return f"Parsl's interchange ended ({ended}); was it killed, or out of memory?"
        if self.silent_since is None:
            return None
        silent = time.monotonic() - self.silent_since
        if silent > SILENCE:
            for_long = facts.in_words(silent)
            return (
                f"Parsl's interchange has not answered for {for_long}; is this machine overloaded?"
            )
        return None

    def dying_workers(self, lost: int) -> bool:
        """Whether workers die at their start, again and again, while nodes are charged. lost: with
        a task.
        """
        deaths = 0
        for log in Path(self.executor.worker_logdir).glob("block-*/*/manager.log"):
            with contextlib.suppress(OSError):
                deaths += len(re.findall(r"Worker \d+ has died", log.read_text(errors="replace")))
        return deaths - lost >= 2

    def reason(self) -> str:
        """Why it is broken, in one line: the words of PBS, else the end of a block's stderr."""
        problem = self.executor.executor_exception
        error = str(problem)
        facade = self.executor.status_facade
        status = sorted(facade.items(), key=lambda item: int(item[0]))
        messages = [state.message or "" for _, state in status]
        said = re.findall(r"qsub: .*", "\n".join([*messages, error]))
        if said:
            block = f"{self.provider.nodes_per_block} node(s) for {self.provider.walltime}"
            block += f" in queue {self.provider.queue}"
            return f"{said[-1]}: {block}; mend config.py or wait, then run again"
        if "lost it" in error or isinstance(problem, PartOfParslDied):
            return f"{error}; run again to go on"
        dying = isinstance(problem, WorkersDie)
        what = str(problem) if dying else "ended before a worker connected"
        for block, _ in reversed(status):
            path = self._stderr(block)
            with contextlib.suppress(OSError, TypeError):
                lines = Path(path).read_text(errors="replace").split("\n")
                last = [line.strip() for line in lines if line.strip()][-3:]
                if last:
                    return f"block {block}: {what}: {' / '.join(last)} ({path})"
        block = status[-1][0] if status else 0
        return f"block {block}: {what}; Parsl's logs: {self.executor.run_dir}"

    def _stderr(self, block):
        job = self.executor.blocks_to_job_id.get(block)
        about = self.provider.resources.get(job, {})
        return about.get("job_stderr_path") or f"{about.get('script_path')}.err"

    # --- what is done when asked ------------------------------------------------------------------
    def give_up(self, error: Exception) -> None:
        """End every task of the executor with an error; none is taken any more."""
        self.executor.set_bad_state_and_fail_all(error)

    def drain_later(self) -> None:
        """Tell later blocks how long before their end the last task starts."""
        if self.mode != "blocks" or self.executor.drain_period is None:
            return
        period = drain_period(self.provider.walltime, self.margin())
        command = self.executor.launch_cmd
        self.executor.launch_cmd = re.sub(
            r"--drain_period=\S+", f"--drain_period={period}", command
        )

    def give_up_stranded(self) -> bool:
        """Give back, once idle, a block with too few nodes left for a task; whether that was the
        only one.
        """
        if not self.executor.stranded:
            return False
        return answered(self._give_up_stranded) or False

    def _give_up_stranded(self):
        for manager in self.executor.connected_managers():
            if manager["block_id"] not in self.executor.stranded:
                continue
            if manager["active"]:
                self.executor._hold_manager(manager["manager"])
            elif not manager["tasks"] and self.mode == "blocks":
                job = self.executor.blocks_to_job_id[manager["block_id"]]
                self.provider.cancel([job])
            elif not manager["tasks"]:
                return True
        return False

    def hold_back(self) -> bool:
        """Hold back every waiting task and block, then say whether no task runs any more."""
        return answered(self._hold_back) or False

    def _hold_back(self):
        self.provider.max_blocks = self.provider.init_blocks = 0
        managers = self.executor.connected_managers()
        connected = {manager["block_id"] for manager in managers}
        queued = []
        for job, about in list(self.provider.resources.items()):
            waits = about["status"].state in (JobState.PENDING, JobState.HELD)
            if waits and self.executor.job_ids_to_block.get(job) not in connected:
                queued.append(job)
        if queued and self.mode == "blocks":
            self.provider.cancel(queued)
        free = [manager["manager"] for manager in managers if manager["active"]]
        for manager in free:
            self.executor._hold_manager(manager)
        # One that was free a moment ago may have been sent a task since.
        return not free and not any(manager["tasks"] for manager in managers)

    def ids(self) -> list:
        """Jobs or process ids of the blocks, for whoever has to clear up after a run that was
        killed.
        """
        return list(self.provider.resources)

    def abandon(self) -> str | None:
        """End everything without Parsl's own cleanup, which would wait for parts that PBS may have
        killed.
        """
        self.executor.interchange_proc.kill()
        return self.release()

    def release(self) -> str | None:
        """Delete what is left of the blocks, which Parsl leaves where it gave up; says so if it
        fails.
        """
        if self.mode == "blocks":
            self.provider.close()
        left = []
        for job, about in list(self.provider.resources.items()):
            if not about["status"].terminal:
                left.append(job)
        if left and not all(self.provider.cancel(left)) and self.mode == "blocks":
            return f"blocks may still be in PBS; delete them: qdel {' '.join(left)}"
        return None


class WorkersDie(TooManyJobFailuresError):
    """Workers that die at their start are started again every 15 s, while nodes are charged."""

    def __str__(self):
        return "workers die at their start"


class Parts:
    """Threads and processes that Parsl started in this process, without which no result would
    arrive.
    """

    def __init__(self, before: set, run_dir: str):
        """before: threads and processes that were there before Parsl started."""
        threads = filter(_is_parsls, threading.enumerate())
        self.threads = [thread for thread in threads if thread not in before]
        processes = multiprocessing.active_children()
        self.processes = [process for process in processes if process not in before]
        self.run_dir = run_dir

    def dead(self) -> str | None:
        """Which has ended, in words; None where all work."""
        for kind, parts in (("thread", self.threads), ("process", self.processes)):
            for part in parts:
                if not part.is_alive():
                    logs = f"see parsl.log in {self.run_dir}"
                    ended = f"Parsl's {kind} {part.name} ended"
                    return f"{ended}, and no result would arrive any more: {logs}"
        return None


def _is_parsls(thread):
    """Whether its code is Parsl's: one of the program's may have started at the same time."""
    target = getattr(thread, "_target", None)
    module = getattr(target, "__module__", None) or ""
    return module.startswith("parsl")


def answered(question: Callable[[], object]) -> object:
    """The answer of a function that asks Parsl's interchange; None if it takes longer than ANSWER
    seconds.

    PBS may have killed the interchange a moment ago, Parsl would wait for it forever, and PBS gives
    us 10 s.
    """
    answers = []
    asking = threading.Thread(target=lambda: answers.append(question()), daemon=True)
    asking.start()
    asking.join(ANSWER)
    return answers[0] if answers else None


def all_answered(questions: list) -> list:
    """The answers of several such functions, asked side by side: one that hangs costs no other its
    time.
    """
    answers = [None] * len(questions)

    def ask(i):
        answers[i] = questions[i]()

    asking = [threading.Thread(target=ask, args=(i,), daemon=True) for i in range(len(questions))]
    for thread in asking:
        thread.start()
    deadline = time.monotonic() + 2 * ANSWER
    for thread in asking:
        thread.join(max(0.0, deadline - time.monotonic()))
    return answers


def clear_up(mode: str, ids: list, run_dir: str) -> list:
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
