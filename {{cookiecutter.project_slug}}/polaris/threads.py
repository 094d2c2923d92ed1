"""An executor of threads of this process, seen as blocks.py sees one of workers."""

from __future__ import annotations

from collections.abc import Callable

from .blocks import Seen


class Threads:
    """An executor of threads of this process: its tasks are awaited, they cannot be held back."""

    def __init__(self, executor, tasks: Callable[[], int]):
        self.executor = executor
        self.label = executor.label
        self.tasks = tasks  # how many run or wait there
        self.takes_groups = False
        self.workers = executor.max_threads
        self.seen_workers = True

    def about(self) -> dict:
        return {"nodes_per_block": 0, "workers_per_node": 0, "workers": self.workers}

    def expected(self) -> str:
        return f"{self.workers} threads of this process"

    def look(self) -> Seen:
        running = self.tasks()
        lines = [f"{running} tasks in threads"] if running else []
        return Seen(lines, {}, self.workers, running)

    def ask_pbs(self) -> None:
        """It has no part in it."""

    def margin(self) -> float:
        return 0.0

    def broken(self) -> bool:
        return False

    def silent(self) -> None:
        return None

    def dying_workers(self, lost: int) -> bool:
        return False

    def give_up(self, error: Exception) -> None:
        """What runs in a thread cannot be ended."""

    def drain_later(self) -> None:
        """It has no blocks."""

    def give_up_stranded(self) -> bool:
        return False

    def hold_back(self) -> bool:
        return self.tasks() == 0

    def ids(self) -> list:
        return []

    def abandon(self) -> None:
        return None

    def release(self) -> None:
        return None
