"""Where a run says what it does: the terminal, or a file once that is gone."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path


class Screen:
    """folder: of the results, where the file is that takes the place of a terminal."""

    def __init__(self, folder: Path):
        self.folder = folder

    def say(self, line: str) -> None:
        self.show(lambda: print(line, flush=True))

    def show(self, show: Callable[[], None]) -> None:
        """Show something; where the terminal is gone and the run was to go on (disown), it does."""
        try:
            show()
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EPIPE):
                raise
            self.is_gone()

    def is_gone(self) -> None:
        """What would be shown on a terminal that is gone goes into a file."""
        file = self.folder / "hangup.log"
        log = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for stream in (1, 2):
            os.dup2(log, stream)
