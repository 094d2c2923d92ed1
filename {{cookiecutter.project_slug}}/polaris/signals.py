"""How the user's program is left: an exception raised in its thread, by a signal, where it may be
raised.

A signal to the main thread ends whatever waits there, such as `future.result()`. While the
interrupted frames are Parsl's or this project's own, which may hold locks or write a file, it waits
until they have returned.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable

import parsl

from .errors import Stop, Stopped

INSIDE = (os.path.dirname(parsl.__file__) + os.sep, os.path.dirname(__file__) + os.sep)
AGAIN = 0.2  # seconds until it is tried again
WAKE = signal.SIGURG  # does nothing where nobody handles it
REASONS = {
    signal.SIGINT: Stop.CTRL_C,
    signal.SIGHUP: Stop.TERMINAL_LOST,
    signal.SIGTERM: Stop.SIGTERM,
}


class Signals:
    """Ctrl-C, SIGTERM and the loss of the terminal, and how they reach the program of a session.

    stop: a function that is told why to stop. is_stopping: whether the program is to be left.
    """

    def __init__(self, stop: Callable[[Stop], None], is_stopping: Callable[[], bool]):
        self.stop = stop
        self.is_stopping = is_stopping
        self.before = {}  # signal -> what it did before the session
        self.inside = False  # whether the program runs, and is to be left by an exception
        self.here = threading.current_thread() is threading.main_thread()
        self.later = None  # the timer that tries again, where the program could not be left
        self.process = os.getpid()

    def catch(self) -> None:
        """Handle the signals; one that was ignored from the start, by nohup for one, stays so."""
        if not self.here:
            return
        for number in REASONS:
            before = signal.getsignal(number)
            if before != signal.SIG_IGN:
                self.before[number] = before
                signal.signal(number, self._signalled)
        self.before[WAKE] = signal.getsignal(WAKE)
        signal.signal(WAKE, self._woken)

    def release(self) -> None:
        """Give the signals back."""
        self.inside = False
        for number, before in self.before.items():
            signal.signal(number, before)
        self.before = {}

    def wake(self) -> None:
        """Have the program left, as soon as it may be left."""
        self.later = None
        if self.here and self.inside:
            signal.pthread_kill(threading.main_thread().ident, WAKE)

    def leave(self) -> None:
        """Leave the program here and now: this project's own code, which waits for something, says
        so.
        """
        if self.inside and self.is_stopping() and self._is_here():
            self.inside = False
            raise Stopped

    def _is_here(self):
        return not self.here or threading.current_thread() is threading.main_thread()

    def _signalled(self, number, frame):
        if os.getpid() != self.process:  # one that the program forked: multiprocessing does
            signal.signal(number, self.before[number])
            os.kill(os.getpid(), number)
            return
        self.stop(REASONS[number])
        self._woken(number, frame)

    def _woken(self, number, frame):
        if not (self.inside and self.is_stopping()) or os.getpid() != self.process:
            return
        if may_be_left(frame):
            self.inside = False
            raise Stopped
        if self.later is None:
            self.later = threading.Timer(AGAIN, self.wake)
            self.later.daemon = True
            self.later.start()


def may_be_left(frame) -> bool:
    """Whether no frame of Parsl's or of this project's lies between here and the user's program."""
    while frame is not None:
        code = frame.f_code
        if code.co_name == CALLER and code.co_filename.startswith(INSIDE[1]):
            return True
        if code.co_filename.startswith(INSIDE):
            return False
        frame = frame.f_back
    return True


CALLER = "call_program"  # the function of cli.py that calls the user's


def in_a_notebook() -> bool:
    """Whether this is a Jupyter kernel."""
    return "ipykernel" in sys.modules
