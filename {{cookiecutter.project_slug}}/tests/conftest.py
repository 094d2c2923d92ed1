"""What the tests share: a copy of the project to run in, without its results."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


class Copy:
    """The project in another folder."""

    def __init__(self, folder):
        leave = shutil.ignore_patterns(".venv", "results", "runinfo", "__pycache__")
        self.path = shutil.copytree(PROJECT, folder / "project", ignore=leave)

    def give(self, name, text):
        """Other inputs, in the file of that name."""
        (self.path / "inputs" / name).write_text(text)

    def run(self):
        """What `python run.py` prints there."""
        command = [sys.executable, "run.py", "--mode", "local"]
        done = subprocess.run(command, cwd=self.path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def rows(self, name):
        """The rows of a CSV file among the results, as dicts of text."""
        with open(self.path / "results" / name, newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture
def copy(tmp_path):
    return Copy(tmp_path)
