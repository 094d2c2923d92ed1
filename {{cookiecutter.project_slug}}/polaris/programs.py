"""An external program in a folder of its own, on a worker: `run_in_folder`, for apps."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath

from . import rendering, time_limit
from .errors import Unusable, one_line, printable
from .machine import PROJECT, shown
from .places import FINISHED, Folder, Rule
from .printed import end_of

OUT, ERR = "out.txt", "err.txt"
DIGITS = 16  # of a digest, in a folder's name
LONGEST_NAME = 60  # characters of it beside the digest
LONGEST_LINE = 110  # characters of what a program said, in the reason of its failure
UNSAFE = re.compile(r"[^A-Za-z0-9.+-]")  # in a name
OF_PROJECT = re.compile(re.escape(f"{PROJECT}/") + r"[^\s\"'=:;,<>|&()]+")
NOT_CODE = ("results", "runinfo")  # folders of the project whose files come and go
PIECE = 1024 * 1024  # bytes of a file that are read at a time
# Of the mpiexec that started the pool of workers: a program is no rank of it, MPI would hang.
OF_POOL = ("PMI_", "PMIX_", "PALS_")
SHELL = ["bash", "-e", "-o", "pipefail", "-c"]


class ProgramFailed(RuntimeError):
    """A program left with a status other than 0, or without what `done` asks for."""


def run_in_folder(
    inputs: dict,
    command: list | str,
    *,
    templates: os.PathLike | str | None = None,
    done: str | Path | Callable | Iterable | None = None,
    parse: Callable[[Path], dict] | None = None,
    log: str = OUT,
    keep: Iterable[str] = (),
    mpi: bool = False,
    within: os.PathLike | str = "results/runs",
) -> dict:
    """Run a program in a folder of its own, once for the same inputs, templates and command.

    Args:
        inputs: {name: value}, all that tells this run from others; each must be used, as @name@ or
            @name:.3f@, in a template or in the command. @project@ is the project's folder.
        command: the program and its arguments, ["./md", "in.md"]; or a text, for bash. A program
            with a / in its name lies in `templates` or in the project, any other on the PATH.
        templates: a folder of the project; its files are put into the new folder, rendered.
        done: what must be there beside status 0: a text in the log; Path("final.xyz"), a file; a
            function of the folder that returns True; or several of these.
        parse: a function of the log's path; it returns a dict of values: columns of the results.
        log: the file of the program's log; what it prints is in out.txt and err.txt.
        keep: patterns of files, "*.restart", that a try which did not end leaves to the next one.
        mpi: whether to start it by $PARSL_MPI_PREFIX, on the nodes of a task of the kind "mpi".
        within: where the folders lie.

    Returns what `parse` returned, and `folder`: its path, from the project's folder. A folder that
    is finished is used as it is, but `parse` reads its log again. $POLARIS_ENDS tells the program
    when its walltime ends, in seconds since 1970, where it runs in a PBS job.

    Raises ProgramFailed, which is worth another try, or Unusable, which is not.
    """
    if parse is not None and not callable(parse):
        raise Unusable(f"parse={parse!r}: is no function of the log's path")
    program = Program(inputs, command, templates, mpi)
    rule = Rule(done, log)
    patterns = [keep] if isinstance(keep, str) else list(keep)
    folder = Folder(PROJECT / within, program.name, program.digest, rule)
    if not folder.is_finished():
        try:
            _make(folder, program, patterns)
        except Exception:
            if not folder.is_finished():  # else another task has, and took this one's place away
                raise
    place = shown(folder.path)
    if parse is None:
        return {"folder": place}
    return {**_parsed(parse, folder.path / log), "folder": place}


def _make(folder, program, patterns):
    place = folder.new_try()
    try:
        rendering.write(program.files, place)
        folder.take_over(patterns, place)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    try:
        mark = program.run(place)
        wrong = folder.rule.broken_by(place, mark["status"])
    except BaseException:
        folder.put_aside(place)
        raise
    if wrong is None:
        folder.finish(place, mark)
        return
    said = _last_words(place, folder.rule.log)
    failed = folder.put_aside(place)
    raise ProgramFailed(f"{said} ({wrong}; {shown(failed)})")


def _last_words(place, log):
    """The last line that says something: of what it complained of, of its log, of what it said."""
    for name in (ERR, log, OUT):
        text = end_of(place / name).replace(f"{place}/", "")  # which would leave no room
        lines = [printable(line) for line in text.splitlines()]
        said = [line for line in lines if line]
        if said:
            return said[-1][:LONGEST_LINE]
    return "it said nothing"


def _parsed(parse, log):
    what = f"{getattr(parse, '__name__', 'parse')}, given {shown(log)},"
    try:
        values = parse(log)
    except Exception as error:
        raise Unusable(f"{what} raised {one_line(error)}") from error
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise Unusable(f"{what} returned a {kind}: return a dict, its values become columns")
    if "folder" in values:
        raise Unusable(f"{what} returned a 'folder', which is the folder's path: name it otherwise")
    return values


# --- what runs ------------------------------------------------------------------------------------
class Program:
    """What runs in a folder: files, words of a command; the folder's name, by all that matters."""

    def __init__(self, inputs: dict, command: list | str, templates, mpi: bool):
        refuse_inputs(inputs)
        folder = None if templates is None else PROJECT / templates
        self.inputs = inputs
        self.templates = rendering.Templates(folder)
        self.templates.refuse_names((OUT, ERR, FINISHED))
        values = rendering.Values(inputs)
        self.files = self.templates.rendered(values)
        self.words = self._words(command, values, mpi)
        self.templates.refuse_unused(inputs, values.used)
        what = {
            "inputs": identity_of(inputs),
            "templates": self.templates.identity(),
            "command": command if isinstance(command, str) else [str(word) for word in command],
            "mpi": bool(mpi),
            "files": self._files_named(),
        }
        self.digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()
        self.name = f"{readable(inputs)}-{self.digest[:DIGITS]}"

    def _words(self, command, values, mpi):
        if isinstance(command, str):
            if mpi:
                raise Unusable("mpi=True: write $PARSL_MPI_PREFIX into a command that is a text")
            return [*SHELL, values.put_into(command, lambda line: f"the command, line {line}")]
        if not isinstance(command, list | tuple) or not command:
            raise Unusable(f"command={command!r}: give a list of words, or a text for bash")
        words = [values.put_into(str(word), lambda line: "the command") for word in command]
        words[0] = self._found(words[0])
        self._refuse_misplaced(words[1:])
        if not mpi:
            return words
        if "PARSL_MPI_PREFIX" not in os.environ:
            mend = "have it in `kinds` of config.py, and the app's executors"
            raise Unusable(f"mpi=True: needs workers of the kind 'mpi': {mend}")
        return [*shlex.split(os.environ["PARSL_MPI_PREFIX"]), *words]

    def _refuse_misplaced(self, words):
        """A file is looked for in the folder where the program runs, not in the project's."""
        here = {file.name for file in self.files}
        for word in words:
            if os.path.isabs(word) or os.path.normpath(word) in here:
                continue
            if os.path.isfile(PROJECT / word):
                mend = f"write @project@/{word}, or put it into the templates"
                raise Unusable(f"the command: {word} is a file of the project: {mend}")

    def _found(self, word):
        """A program as it can be started in the folder; Unusable where it cannot."""
        if "/" not in word:
            if shutil.which(word):
                return word
            mend = "load its module in activate.sh, or give its path"
            if (PROJECT / word).exists():
                mend = f"of the project: ./{word}"
            raise Unusable(f"no program {word!r} is on the PATH, on {socket.gethostname()}: {mend}")
        for file in self.files:
            if file.name == os.path.normpath(word):
                if not file.link and not file.mode & 0o100:
                    raise Unusable(f"{word} of the templates cannot be executed: chmod +x")
                return word
        path = PROJECT / word
        if not path.is_file():
            raise Unusable(f"{word}: no such program, neither in the templates nor in {PROJECT}")
        if not os.access(path, os.X_OK):
            raise Unusable(f"{shown(path)} cannot be executed: chmod +x {shown(path)}")
        return str(path)

    def _files_named(self):
        """The files of the project that the command and the rendered files name, for JSON."""
        texts = ["\n".join(self.words)]
        prefix = str(PROJECT).encode()
        for file in self.files:
            if prefix in file.data:
                texts.append(file.data.decode("utf-8", "replace"))
        paths = {Path(path.rstrip(".")) for text in texts for path in OF_PROJECT.findall(text)}
        found = []
        for path in sorted(paths):
            near = path.relative_to(PROJECT)
            if path.is_file() and near.parts[0] not in NOT_CODE:
                seen = path.stat()
                found.append([str(near), _content(path, seen.st_size, seen.st_mtime_ns)])
        return found

    def run(self, place: Path) -> dict:
        """Run it in a folder to its end, and all that it starts; returns what its mark will say."""
        mark = f"{os.getpid()}-{time.monotonic_ns()}"  # by which what it starts is found
        environment = {**_environment(), time_limit.MARK: mark, "PWD": str(place)}
        time_limit.reaper()  # ends it should this worker be killed
        start = time.perf_counter()
        with open(place / OUT, "wb") as out, open(place / ERR, "wb") as err:
            try:
                process = subprocess.Popen(
                    self.words,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    cwd=place,
                    env=environment,
                    start_new_session=True,
                )
            except OSError as error:
                first = "is its first line, #!, right, and is it made for this machine?"
                raise Unusable(f"{self.words[0]}: {error.strerror}: {first}") from None
            try:
                status = process.wait()
            finally:
                end(process, mark)
        return {
            "inputs": {name: _for_people(value) for name, value in self.inputs.items()},
            "command": self.words,
            "status": status,
            "seconds": round(time.perf_counter() - start, 3),
            "host": socket.gethostname(),
            "ended": round(time.time(), 3),
            "digest": self.digest,
        }


def end(process: subprocess.Popen, mark: str) -> None:
    """End a program, if it has not ended, and what it has started: by SIGTERM, then by SIGKILL."""
    time_limit.end_programs(mark, math.inf, [])
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _environment():
    return {name: text for name, text in os.environ.items() if not name.startswith(OF_POOL)}


@functools.lru_cache(maxsize=1000)
def _content(path, size, changed):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _for_people(value):
    plain = value is None or isinstance(value, str | int | float)
    return value if plain else str(value)


# --- what tells inputs apart ----------------------------------------------------------------------
def refuse_inputs(inputs: dict) -> None:
    """Unusable where they are no dict of names."""
    if not isinstance(inputs, dict):
        raise Unusable(
            f"the inputs are a {type(inputs).__name__}: give a dict, of names and values"
        )
    for name in inputs:
        if not isinstance(name, str) or not name.isidentifier():
            raise Unusable(f"an input is called {name!r}: a name has letters, digits and _")
        if name == rendering.GIVEN:
            raise Unusable(f"an input is called {name!r}: @{name}@ is the project's folder")


def identity_of(value) -> list:
    """What tells a value from all others, their kinds included (1, 1.0, True, "1"), for JSON."""
    kind = type(value)
    if value is None or kind in (bool, int, float, complex, str, bytes):
        return [kind.__name__, repr(value)]
    if isinstance(value, PurePath):
        return ["path", str(value)]
    if kind in (list, tuple):
        return [kind.__name__, [identity_of(each) for each in value]]
    if kind is dict:
        pairs = [[identity_of(key), identity_of(each)] for key, each in value.items()]
        return ["dict", sorted(pairs, key=json.dumps)]
    if kind.__module__ == "numpy" and not getattr(value, "dtype", object).hasobject:
        content = hashlib.sha256(value.tobytes()).hexdigest()
        return [kind.__name__, str(value.dtype), list(value.shape), content]
    raise Unusable(f"an input is a {kind.__name__}: give numbers, texts, or lists of these")


def readable(inputs: dict) -> str:
    """A name for files that says what it can of the inputs: temperature-2.3_seed-1."""
    words = []
    for name in sorted(inputs):
        value = inputs[name]
        if value is None or isinstance(value, str | int | float | PurePath):
            words.append(f"{name}-{value}")
    name = UNSAFE.sub("_", "_".join(words))
    return name[:LONGEST_NAME] or "run"
