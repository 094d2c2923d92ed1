"""The time of the PBS job that runs this, if one does."""

from __future__ import annotations

import os
import time

from . import facts, machine


class Walltime:
    """When the job started and ends, seconds since the epoch; None where there is none."""

    def __init__(self, mode: str):
        inside = mode == "job" or "PBS_JOBID" in os.environ
        self.start, self.end = machine.times_of_job() if inside else (None, None)

    def about(self) -> dict:
        """For the run's log: the job that runs this."""
        return {
            "job_start": self.start,
            "job_nodes": machine.nodes_of_job() if self.start else [],
        }

    def lines(self) -> list:
        if self.end is None:
            return []
        left = max(0, self.end - time.time())
        clock = time.strftime("%H:%M", time.localtime(self.end))
        return [f"the job ends at {clock}, in {facts.in_words(left)}"]

    def is_over(self, margin: float) -> bool:
        """Whether no task is to start any more."""
        return self.end is not None and time.time() > self.end - margin

    def presses(self, margin: float) -> bool:
        """Whether nothing is waited for any more."""
        return self.end is not None and time.time() > self.end - min(15, margin / 2)
