"""A limit of time for a task, whatever it does.

Code that returns to Python gets a TimeoutError. Code that does not, a loop in C that may even hold
Python's lock, is ended together with its worker, a little later, from a thread of faulthandler's
own that needs no Python; the stacks of that moment are in a file. The programs that a task has
started do not outlive it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable

import psutil

from .printed import STACKS, prints

GRACE = 2.0  # seconds that a task has after its limit to return to Python, and then to end
POLITE = 1.0  # seconds that its programs have after SIGTERM
KILLED = 0.2  # seconds for the kernel to end them after SIGKILL
MARK = "POLARIS_TASK"  # in the environment of what a task starts: this process, and the task
TICK = 0.02  # seconds; the kernel's clock for the start of a process is no finer

# Kills what a task has started once its worker is gone: then the pipe to this script is closed.
REAPER = """
read -r nothing
for signal in TERM KILL; do
    found=
    for environ in /proc/[0-9]*/environ; do
        grep -qsz "^POLARIS_TASK=$1-" "$environ" || continue
        process=${environ#/proc/}
        kill -s "$signal" "${process%/environ}"
        found=1
    done
    [ -z "$found" ] || sleep 1
done
"""


class Limited:
    """A function that has `seconds` for each call of it, in the main thread of a worker.

    Raises TimeoutError for one that took longer.
    """

    def __init__(self, function: Callable, seconds: float):
        self.function = function
        self.seconds = seconds
        functools.update_wrapper(self, function)

    def __call__(self, *args, **kwargs):
        if _needs_no_alarm(self.seconds):
            return self.function(*args, **kwargs)
        alarm = Alarm(self.seconds)
        try:
            result = alarm.guard(self.function, args, kwargs)
        except Exception:
            if alarm.error is None:
                raise
        finally:
            alarm.stop()
        if alarm.error is not None:  # also where the function has caught it
            raise alarm.error
        return result


def limit_of(function: Callable) -> float | None:
    """The seconds that a function has for a call, also one that is wrapped; None: any number."""
    while function is not None:
        if isinstance(function, Limited):
            return function.seconds
        function = getattr(function, "__wrapped__", None)
    return None


def past_limit(seconds: float) -> TimeoutError:
    return TimeoutError(f"not ended after {seconds} s: its time limit")


def _needs_no_alarm(seconds):
    if threading.current_thread() is not threading.main_thread():
        return True  # signals do not reach it
    outer = _alarm_at_work()
    return outer is not None and outer.end <= time.monotonic() + seconds


def _alarm_at_work():
    handler = signal.getsignal(signal.SIGALRM)
    alarm = getattr(handler, "__self__", None)
    return alarm if isinstance(alarm, Alarm) else None


class Alarm:
    """Goes off once, `seconds` after its start, unless it is over by then."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.end = time.monotonic() + seconds
        self.since = _since_boot()
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        # Parsl's own, among others: this process would wait for ever for one that is killed.
        self.others = [child.pid for child in multiprocessing.active_children()]
        self.over = False
        self.error = None  # what it raised
        self.outer = _alarm_at_work()
        self.before = signal.getsignal(signal.SIGALRM) or signal.SIG_DFL
        self.timer = 0.0  # seconds that were left of another timer
        self.mark_before = os.environ.get(MARK)

    def guard(self, function: Callable, args: tuple, kwargs: dict):
        """Call a function; TimeoutError strikes wherever it is then."""
        try:
            self.start()
            return function(*args, **kwargs)
        finally:
            self.over = True

    def start(self) -> None:
        reaper()
        os.environ[MARK] = self.mark
        end_worker_in(self.seconds + GRACE)
        signal.signal(signal.SIGALRM, self.strike)
        self.timer, _ = signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def strike(self, number, frame) -> None:
        """The handler of the signal; comes between any two steps of the main thread's Python."""
        if self.over:
            return
        self.error = past_limit(self.seconds)
        end_worker_in(POLITE + GRACE)
        end_programs(self.mark, self.since, self.others)
        end_worker_in(GRACE)
        raise self.error

    def stop(self) -> None:
        """Whatever was set before is set again."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, self.before)
        if self.mark_before is None:
            os.environ.pop(MARK, None)
        else:
            os.environ[MARK] = self.mark_before
        if self.outer is not None:
            self.outer.resume()
        elif self.timer:
            left = self.end - self.seconds + self.timer - time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, max(left, TICK))

    def resume(self) -> None:
        """Go on after an inner one."""
        left = max(self.end - time.monotonic(), TICK)
        end_worker_in(left + GRACE)
        if self.error is None:
            signal.setitimer(signal.ITIMER_REAL, left)


def end_worker_in(seconds: float) -> None:
    """Unless it is cancelled by then, or said anew."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=stacks_file())


@functools.cache
def stacks_file() -> int:
    """Descriptor of the file for the stacks of a task that has this process ended."""
    stem = prints().stem
    if stem is not None:
        with contextlib.suppress(OSError):
            how = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            return os.open(stem + STACKS, how, 0o600)
    return 2


# --- programs that a task has started -------------------------------------------------------------
@functools.cache
def reaper() -> subprocess.Popen | None:
    """The process that ends what tasks of this one have started, however this one ends."""
    own = str(os.getpid())
    command = ["bash", "-c", REAPER, "reaper", own]
    quiet = subprocess.DEVNULL
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=quiet,
            stderr=quiet,
            start_new_session=True,
            cwd="/",
        )
    except OSError:
        return None


def end_programs(mark: str, since: float, others: list[int]) -> None:
    """End what a task has started. since: seconds after boot at which it began. others: stay."""
    for number, seconds in ((signal.SIGTERM, POLITE), (signal.SIGKILL, KILLED)):
        programs = _programs(mark, since, others)
        if not programs:
            return
        for program in programs:
            with contextlib.suppress(psutil.Error):
                program.send_signal(number)
        psutil.wait_procs(programs, seconds)


def _programs(mark, since, others):
    """Known by their environment, whoever started them; and what was forked off this process."""
    began = psutil.boot_time() + since - TICK
    forked = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.create_time() >= began and process.pid not in others:
                forked.add(process.pid)
    own = reaper()
    if own is not None:
        forked.discard(own.pid)
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            its_mark = process.environ().get(MARK)
            has_none = its_mark is None and process.pid in forked
            if its_mark == mark or has_none:
                found.append(process)
    return found


def _since_boot():
    try:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    except AttributeError:  # no Linux
        return time.time() - psutil.boot_time()
