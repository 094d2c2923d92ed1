"""A thread that stays: Parsl's interchange ends with the thread that has started it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future


class Staying:
    """Calls functions in a thread that lives until `close`; in the main one, where that asks."""

    def __init__(self):
        self.closed = threading.Event()

    def call(self, function: Callable[[], None]) -> None:
        """Call a function, wait for its end; what it raises is raised here."""
        if threading.current_thread() is threading.main_thread():
            function()
            return
        called = Future()
        thread = threading.Thread(target=self._call, args=(function, called), daemon=True)
        thread.start()
        called.result()

    def _call(self, function, called):
        try:
            function()
        except Exception as error:
            called.set_exception(error)
        else:
            called.set_result(None)
        self.closed.wait()

    def close(self) -> None:
        """Let the threads end."""
        self.closed.set()
