"""Parsl while a session runs it: its workers, its blocks and the clock are watched, and it ends in
order.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import threading
import time

from parsl.executors import ThreadPoolExecutor

from . import ending, views
from .blocks import Blocks, PartOfParslDied, Parts, WorkersDie, all_answered
from .errors import Stop, Unfinished
from .kernel import Calls, Kernel
from .lock import BEAT
from .memory import Garbage, Memory
from .threads import Threads
from .views import Clock
from .walltime import Walltime
from .writing import Writer

TICK = 0.5  # seconds between looks while nothing ends


class Running:
    """Parsl, loaded for a session. session: who asks; see there for what is used of it."""

    def __init__(self, session, config, mode: str, margin: int | None):
        self.session = session
        self.folder = session.folder
        self.tally = session.tally
        self.calls: Calls = session.calls
        self.ended = session.ended
        self.around = []  # lines about workers and blocks
        self.told = {}  # (executor, block) -> what the run's log last said of it
        self.quiet = 0  # looks in a row that found nothing running
        self.drained = threading.Event()  # what ran has ended, and all else has failed
        self.closed = threading.Event()
        self.next_sight = 0.0
        self.noted = []  # ids of the blocks, in the lock
        self.every_ten = Clock(10)
        self.every_other_ten = Clock(10)
        self.view = None
        self.policy = config.retry_handler
        self.policy.on_try = self.calls.failed_try
        self.policy.is_shared = self.calls.is_shared
        before = {*threading.enumerate(), *multiprocessing.active_children()}
        logging.raiseExceptions = False  # a full disk is said once, not by each log
        self.kernel = Kernel(config, self.calls)
        self.kernel.memoizer.no_room = self._no_room
        self.parts = Parts(before, self.kernel.run_dir)
        self.blocks = []
        for executor in config.executors:
            self.blocks.append(self._watched(executor, mode, margin))
        self.mode = mode
        self.memory = Memory()
        self.walltime = Walltime(mode)
        self.say_of_thread = threading.excepthook
        self.garbage = Garbage()
        self.writer = Writer(session)
        self.watcher = threading.Thread(target=self._watch, name="watch", daemon=True)

    def _watched(self, executor, mode, margin):
        if isinstance(executor, ThreadPoolExecutor):
            return Threads(executor, lambda: self.calls.count(executor.label))
        return Blocks(executor, mode, margin)

    def _no_room(self, error):
        """Results of cached apps find no room: what the run would still compute would be lost."""
        self.session.fail(ending.no_room(self.session, error))

    def start(self) -> None:
        """Begin to write and to watch."""
        threading.excepthook = self._thread_ended
        self.writer.start()
        self.watcher.start()

    def _thread_ended(self, about):
        """A thread ended by an error: no news of Parsl's, once its executor has been given up."""
        if self.broken() is None:
            self.say_of_thread(about)

    def about(self) -> dict:
        """For the run's log."""
        return {
            "executors": {block.label: block.about() for block in self.blocks},
            **self.walltime.about(),
        }

    def expected(self) -> str:
        """In words, what the run will have."""
        if len(self.blocks) == 1:
            return self.blocks[0].expected()
        return "; ".join(f"{block.label}: {block.expected()}" for block in self.blocks)

    def workers_for(self, app) -> int:
        """How many workers the tasks of an app have, where all their blocks run."""
        return self._blocks_for(app).workers

    def works_for(self, app) -> bool:
        """Whether a worker for the tasks of an app was seen so far."""
        return self._blocks_for(app).seen_workers

    def takes_groups(self, app) -> bool:
        """Whether an app's executor takes groups of rows: not one of MPI tasks, nor of threads."""
        return self._blocks_for(app).takes_groups

    def _blocks_for(self, app):
        """Those of the first executor that an app names, else the first of all."""
        executors = getattr(app, "executors", "all")
        named = [block for block in self.blocks if block.label in executors]
        return self.blocks[0] if executors == "all" or not named else named[0]

    # --- what is watched --------------------------------------------------------------------------
    def _watch(self):
        while not self.closed.wait(TICK if self.session.stopping is None else TICK / 2):
            if not self.session.at_once:  # a question to what PBS has killed would take seconds
                self.session.guarded(self._look)
            if self.session.stopping is not None:
                self.session.guarded(self._end)

    def _look(self):
        self._note()
        self._foresee()
        self._look_at_the_clock()
        self._look_at_parsl()
        if time.monotonic() > self.next_sight:
            seen = any(block.seen_workers for block in self.blocks)
            self.next_sight = time.monotonic() + (5 if seen else 1)
            self.tell()
        if self.every_other_ten():
            self._look_for_dying_workers()
            for block in self.blocks:
                block.drain_later()
        self.show()

    def _note(self):
        """Write down how the run goes, for --status, and its blocks, for who clears up if it is
        killed.
        """
        ids = self.ids()
        if ids != self.noted or self.every_ten():
            self.noted = ids
            self.folder.lock.note(ids, self.lines())

    def _foresee(self):
        """Say, before it is spent, that the memory will not do for the calls of the program."""
        said = self.memory.foresee(len(self.calls.running))
        if said:
            self.session.screen.say(said)

    def came(self, size: int) -> None:
        """A result of so many bytes came from a worker: say it where all of them would not fit."""
        if size <= self.memory.largest:
            return
        workers = sum(block.workers for block in self.blocks)
        said = self.memory.foresee_results(size, workers)
        if said:
            self.session.screen.say(said)

    def look_for_garbage(self) -> None:
        """Have Python look for it less often, as long as many calls are in flight."""
        self.garbage.look_less(len(self.calls.running), self.memory.largest)

    def _look_at_the_clock(self):
        margin = max(block.margin() for block in self.blocks)
        if not self.walltime.is_over(margin):
            return
        if self.session.stopping is None:
            self.session.stop(Stop.WALLTIME)
        elif self.walltime.presses(margin):
            self.session.at_once = True

    def _look_at_parsl(self):
        """Stop where nothing works any more."""
        dead = self.parts.dead()
        for block in self.blocks:
            why = dead or block.silent()
            if why and not block.broken() and not self.session.over:
                block.give_up(PartOfParslDied(why))
            if block.give_up_stranded() and self.session.stopping is None:
                self.session.stop(Stop.NODES_LOST)
        self.stop_if_broken()

    def stop_if_broken(self) -> None:
        """Stop where an executor has no workers, and will have none; what others run is awaited."""
        if self.session.over or self.broken() is None:
            return
        if self.session.stopping is None:
            self.session.stop(Stop.NO_WORKERS)
        if all(block.broken() for block in self.blocks):
            self.session.at_once = True

    def _look_for_dying_workers(self):
        if self.tally.ended:
            return
        for block in self.blocks:
            if block.dying_workers(self.policy.lost_workers):
                block.give_up(WorkersDie())

    def broken(self):
        """An executor that has no workers and will have none; or None."""
        return next((block for block in self.blocks if block.broken()), None)

    def tell(self) -> None:
        """Note in the run's log how workers and blocks are."""
        seen = all_answered([block.look for block in self.blocks])
        around = []
        for block, sight in zip(self.blocks, seen, strict=True):
            if sight is None:
                continue
            whose = f"{block.label}: " if len(self.blocks) > 1 else ""
            around += [f"{whose}{line}" for line in sight.lines]
            for name, about in sight.blocks.items():
                if about != self.told.get((block.label, name)):
                    self.folder.log("block", executor=block.label, block=name, **about)
                self.told[block.label, name] = about
        around += self.slow_starts()
        around += [self.losses()] if self.policy.lost else []
        self.around = around + self.walltime.lines()

    def slow_starts(self) -> list[str]:
        """In words, why the workers of a node were started one by one, and not at once."""
        reasons = [getattr(each, "spawned", "") for each in self.kernel.executors.values()]
        return [f"workers start one by one: {why}" for why in dict.fromkeys(reasons) if why]

    def losses(self) -> str | None:
        """In words, how many tries were lost with a worker, node or block."""
        lost = self.policy.lost
        if not lost:
            return None
        return f"{lost} tries lost with a worker, node or block, and made again"

    def lines(self) -> list:
        return [self.tally.text(self.session.stopping), *self.around]

    def ids(self) -> list:
        return [job for block in self.blocks for job in block.ids()]

    def show(self, last: bool = False) -> None:
        """Update the view; where its terminal is gone (disown), the run goes on."""
        if self.view is None:
            self.view = views.progress()
        shown = views.Shown(
            text=self.tally.text(self.session.stopping),
            around=self.around,
            failure=self.tally.last_failure,
            done=self.tally.done + self.tally.failed,
            total=self.tally.total,
            stopping=self.session.stopping is not None,
        )
        self.session.screen.show(lambda: self.view.update(shown, last=last))

    # --- the end ----------------------------------------------------------------------------------
    def _end(self):
        """Have the program left; once nothing runs, or at once, fail what has no result."""
        self.session.signals.wake()
        if self.session.over:
            return
        if not self.session.at_once:
            idle = all_answered([block.hold_back for block in self.blocks if not block.broken()])
            # A second look, a tick later: a result may have been on its way from the interchange.
            self.quiet = self.quiet + 1 if all(idle) and self.ended.empty() else 0
        if self.session.at_once or self.quiet >= 2:
            self.session.over = True
            self.session.at_once = self.session.at_once or self.broken() is not None
            unfinished = Unfinished(f"the run was stopped by {self.session.stopping.words}")
            for block in self.blocks:
                if not block.broken():
                    self.session.guarded(block.give_up, unfinished)
            self.drained.set()
            self.session.notify()

    def close(self) -> str | None:
        """Give everything back; returns a warning where that did not succeed."""
        at_once = self.session.at_once
        if not at_once:
            with contextlib.suppress(Exception):  # PBS may not answer, or the interchange be gone
                for block in self.blocks:
                    block.ask_pbs()
                self.tell()
        self.closed.set()
        self.watcher.join(BEAT)
        self.writer.close()
        self.garbage.look_as_usual()
        self.show(last=True)
        self.session.screen.show(self.view.close)
        if not at_once:
            threading.excepthook = self.say_of_thread
            with contextlib.suppress(Exception):
                self.kernel.cleanup()
        warnings = []
        for block in self.blocks:
            warnings.append(block.abandon() if at_once else block.release())
        return "; ".join(warning for warning in warnings if warning) or None
