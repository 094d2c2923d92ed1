"""Short rows in groups: one Parsl task for several, where handing each out takes longer than running it.

Parsl spends about a millisecond on a task, whatever it does. Each row of a group is still recorded, retried
and resumed on its own: one that fails is run again as a task of its own, and so are all of a lost group. A
group that takes too long gives back the rows that it has not begun.
"""

from parsl.serialize import serialize

from . import facts, on_worker
from .errors import one_line

SHORT = 0.1  # seconds; rows that take longer are tasks of their own: handing one out is a hundredth of that
TARGET = 1.0  # seconds that a group is to take
BUDGET = 1.5  # seconds after which a group begins no further row: what is done is recorded within two
MOST_ROWS_OUT = 50_000  # rows in flight, where they go out in groups
ENOUGH = 20  # rows that tell how long the others will take


class Groups:
    """How many rows the next Parsl task gets, and what became of those of one that ended.

    rows_per_task: as in config.py; None means learnt, for about TARGET seconds a task. retries: likewise.
    """

    def __init__(self, workers, retries, rows_per_task=None):
        self.workers, self.retries, self.fixed = workers, retries, rows_per_task
        # With many workers even tasks of a second come faster than they can be handed out.
        shortest = workers / facts.TASKS_PER_SECOND
        self.short, self.target = max(SHORT, shortest), max(TARGET, 2 * shortest)
        self.mean, self.known = 0.0, 0
        self.alone = False  # whether rows came that cannot go into groups

    def learn(self, seconds):
        """Take the time of one more row: the mean over about the last hundred."""
        self.known += 1
        self.mean += (seconds - self.mean) / min(self.known, 100)

    def size(self, waiting):
        """How many rows the next task gets. waiting: rows that no task has yet; they are to keep all busy."""
        if self.fixed is None and self.known < ENOUGH:
            return 1
        wanted = self.fixed or (int(self.target / max(self.mean, 1e-6)) if self.mean < self.short else 1)
        return max(1, min(wanted, facts.ROWS_PER_TASK, waiting // (2 * self.workers)))

    def room(self, window, size):
        """How many rows may be with Parsl. window: tasks. Few, until it is known how long they take."""
        if self.fixed is None and self.known < ENOUGH:
            return max(4 * self.workers, 2 * ENOUGH)
        return max(window, min(4 * self.workers * size, MOST_ROWS_OUT))

    @staticmethod
    def group(calls):
        """Submit held calls of one app as one Parsl task; returns its future."""
        for call in calls:
            call.grouped = True
        first = calls[0]
        arguments = (serialize(first.func), [(call.args, call.kwargs) for call in calls], BUDGET)
        options = {**first.options, "ignore_for_cache": None}
        return first.calls.submit(on_worker.run_group, app_args=arguments, app_kwargs={}, **options)

    @staticmethod
    def opened(future, name):
        """Of a group that ended, for each row begun: (result, error, what the record of tries says of it)."""
        sent = future.task_record["exec_fu"]
        common = {**sent.ran, "app": name, "try": 0, "submitted": sent.submitted}
        for told, began, took in future.result():
            tried = {**common, "started": round(began, 3), "ended": round(began + took, 3), "status": "done"}
            tried["seconds"] = round(took, 3 if took > 0.1 else 6)
            result, error = on_worker.opened(told)
            if error is not None:
                tried |= {"status": "failed", "cause": one_line(error)}
            yield result, error, tried

    def hopeless(self, error, cost):
        """Whether a row that failed in a group is not to be tried again."""
        return cost > self.retries or not on_worker.worth_another_try(error)
