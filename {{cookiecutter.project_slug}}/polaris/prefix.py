"""The Python environment that the project uses: where it lies, whose it is, what it lacks.

Either the one that setup_env.sh makes, or one of the user's own (own_environment in activate.sh),
into which nothing is put unasked: `python -m polaris.prefix` is what setup_env.sh says of that.
Standard library only.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from . import facts, machine
from .machine import PROJECT

NEEDED = ("parsl", "numpy", "matplotlib", "rich")  # packages that setup_env.sh brings
FROM_CONDA = ("numpy", "matplotlib", "rich", "pip")  # the rest, and what users add, is of PyPI
PARSL = "parsl==" + ".".join(map(str, facts.PARSL_TESTED))
POOL = "process_worker_pool.py"  # Parsl's program for workers
NOT_ON_POLARIS = ("mpich",)  # of requirements-laptop.txt: there it would hide the mpiexec of PALS
FIND = 'source "$1" base-only && project=$2 && polaris_own; echo "$own:$kind"'


class Own(NamedTuple):
    """An environment of the user's own."""

    folder: str
    kind: str  # "venv", "uv", "conda" or "pixi"; "" where it is none
    wrong: str  # why activate.sh refuses it, in one line; "" where it does not


class Lack(NamedTuple):
    """What an environment lacks: in words, and as pip is asked for it."""

    words: str
    wanted: str


# --- whose it is ----------------------------------------------------------------------------------
@functools.lru_cache
def own() -> Own | None:
    """The environment of the user's own, as bash reads activate.sh; None where there is none."""
    script = PROJECT / "activate.sh"
    text = script.read_text(encoding="utf-8")
    if not re.search(r"""^own_environment=(?!(""|'')?\s*(#|$))""", text, re.MULTILINE):
        return None
    said, complaints = machine.both("bash", "-c", FIND, "bash", str(script), str(PROJECT))
    folder, colon, kind = said.strip().rpartition(":")
    if colon and not folder:
        return None
    refusals = [line for line in complaints.splitlines() if line.startswith("activate.sh line ")]
    if not refusals and not kind:  # bash did not get so far
        refusals = [f"activate.sh cannot be read by bash: {complaints.strip()}"]
    return Own(folder, kind, "\n".join(refusals))


def place() -> str:
    """Where the user's own environment is set, and to what: file, line, name and folder."""
    text = (PROJECT / "activate.sh").read_text(encoding="utf-8")
    number = 0
    for at, line in enumerate(text.splitlines(), 1):
        if line.startswith("own_environment="):
            number = at
    mine = own()
    return f"activate.sh line {number}: own_environment = {mine.folder if mine else ''}"


def is_ours() -> bool:
    """Whether this Python is of the project's environment."""
    here = Path(sys.prefix).resolve()
    mine = own()
    if mine is not None:
        return here == Path(mine.folder).resolve()
    return here.is_relative_to((PROJECT / ".venv").resolve())


def mend() -> str:
    """What mends the environment, in words."""
    if own() is None:
        return "bash setup_env.sh"
    return f"bash setup_env.sh tells how ({place()})"


def as_settings() -> dict[str, str]:
    """The fields of Settings that tell of an environment of the user's own; none without one."""
    mine = own()
    if mine is None:
        return {}
    return {"own_environment": mine.folder, "own_kind": mine.kind, "own_place": place()}


# --- what it lacks --------------------------------------------------------------------------------
def lacks(imported: bool = False) -> list[Lack]:
    """What the environment of this Python lacks. imported: each package is imported, not found."""
    found = []
    for name, wanted in _wanted().items():
        wrong = _wrong_with(name, imported)
        if wrong is not None:
            found.append(Lack(wrong, wanted))
    if any(lack.wanted == PARSL for lack in found):
        return found
    wrong = unknown_parsl()
    if wrong is not None:
        wrong = f"a Parsl that this project knows ({wrong})"
    elif not os.access(Path(sys.executable).with_name(POOL), os.X_OK):
        wrong = f"bin/{POOL}"
    if wrong is not None:
        found.append(Lack(wrong, PARSL))
    return found


def _wanted():
    """{name of a package: as pip is asked for it}: what is needed, and what users added."""
    wanted = {name: name for name in NEEDED}
    wanted["parsl"] = PARSL
    for file in ("requirements.txt", "requirements-laptop.txt"):
        path = PROJECT / file
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        for line in text.splitlines():
            said = re.fullmatch(r"([A-Za-z0-9][\w.-]*)([^;#@]*?)\s*(#.*)?", line)
            if said and said[1] not in NOT_ON_POLARIS:
                wanted.setdefault(said[1], said[1] + said[2].strip())
    return wanted


def _wrong_with(name, imported):
    """Why a package cannot be used, in words; None where it can."""
    if name not in NEEDED:  # whose module may have another name
        try:
            importlib.metadata.version(name)
            return None
        except importlib.metadata.PackageNotFoundError:
            return name
    if importlib.util.find_spec(name) is None:
        return name
    if imported:
        try:
            importlib.import_module(name)
        except Exception as error:  # such as a library of CUDA's that is not there
            return f"{name} that can be imported ({type(error).__name__}: {error})"
    return None


def unknown_parsl() -> str | None:
    """What another Parsl than the tested one lacks of what is used of its inside, in words."""
    from . import parsl_inside

    version = importlib.metadata.version("parsl")
    tested = ".".join(map(str, facts.PARSL_TESTED))
    if version == tested:
        return None
    missing = parsl_inside.gone()
    return f"Parsl {version} lacks {', '.join(missing)}" if missing else None


def wrong() -> list[str]:
    """What keeps the user's own environment from being used, a line each."""
    mine = own()
    if mine is None:
        return []
    if mine.wrong:
        return [mine.wrong]
    if not is_ours():
        return []
    lacking = lacks()
    return [said_to_lack(lacking)] if lacking else []


def said_to_lack(lacking: Iterable[Lack]) -> str:
    """One line: what the user's own environment lacks, and what tells how to mend it."""
    words = ", ".join(lack.words for lack in lacking)
    return f"{place()}: it lacks {words}: bash setup_env.sh tells how to mend it"


def in_want_of(package: str) -> str:
    """What to do where a package that this project needs is not there."""
    if own() is not None and is_ours():
        return said_to_lack(lacks())
    mend = "source activate.sh"
    if own() is None:
        mend += " (made by: bash setup_env.sh)"
    return f"{sys.executable} has no {package}: {mend}"


# --- what installs that ---------------------------------------------------------------------------
def can_be_written() -> bool:
    return os.access(sysconfig.get_path("purelib"), os.W_OK)


def commands(kind: str, lacking: list[Lack]) -> list[str]:
    """The commands that install exactly what is lacking, by the tool of the environment's kind."""
    again = [lack.wanted for lack in lacking if lack.words == f"bin/{POOL}"]
    wanted = [lack.wanted for lack in lacking if lack.wanted not in again]
    made = []
    if kind in ("conda", "pixi"):
        by_conda = [each for each in wanted if each in FROM_CONDA]
        wanted = [each for each in wanted if each not in by_conda]
        if kind == "conda" and wanted + again and importlib.util.find_spec("pip") is None:
            by_conda.append("pip")
        if by_conda:
            made.append(_by_conda(kind) + by_conda)
    if wanted:
        made.append(_by_pip(kind) + wanted)
    if again:
        made.append(_by_pip(kind, again=True) + again)
    return [shlex.join(command) for command in made]


def _by_conda(kind):
    if kind == "pixi":
        return ["pixi", "add", "--manifest-path", _manifest()]
    there = [tool for tool in ("conda", "mamba", "micromamba") if shutil.which(tool)]
    tool = there[0] if there else "conda"
    return [tool, "install", "--yes", "--prefix", sys.prefix, "--channel", "conda-forge"]


def _by_pip(kind, again=False):
    """again: anew, although it is there, and what it needs is left as it is."""
    anew = ["--no-deps"] if again else []
    if kind == "pixi" and not again:
        return ["pixi", "add", "--manifest-path", _manifest(), "--pypi"]
    if importlib.util.find_spec("pip") is None or (kind == "uv" and shutil.which("uv")):
        anew += ["--reinstall"] if again else []
        return ["uv", "pip", "install", "--python", sys.executable, *anew]
    anew += ["--force-reinstall"] if again else []
    return [sys.executable, "-m", "pip", "install", *anew]


def _manifest():
    """The pixi.toml or pyproject.toml that an environment of pixi is made by."""
    prefix = Path(sys.prefix)
    try:
        noted = json.loads((prefix / "conda-meta" / "pixi").read_text(encoding="utf-8"))
        return noted["manifest_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return str(prefix.parent.parent.parent / "pixi.toml")


# --- for setup_env.sh -----------------------------------------------------------------------------
def _tell(mine):
    """Print what the environment has and lacks; returns whether it can be used."""
    print(f"own environment: {mine.folder} ({mine.kind})")
    print(f"    python {sys.version.split()[0]}")
    for name in (*NEEDED, "torch"):
        try:
            print(f"    {name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            more = ", so the sample computes with numpy" if name == "torch" else ""
            print(f"    {name}: none{more}")
    lacking = lacks(imported=True)
    if not lacking:
        return True
    print(f"{place()}: it lacks {', '.join(lack.words for lack in lacking)}")
    if can_be_written():
        print("what installs exactly that:")
        print(*(f"    {line}" for line in commands(mine.kind, lacking)), sep="\n")
    else:
        print(_on_top())
    return False


def _on_top():
    """How to go on with an environment that cannot be written to."""
    folder = PROJECT / ".venv" / "own"
    make = shlex.join([sys.executable, "-m", "venv", "--system-site-packages", str(folder)])
    lines = [
        f"it cannot be written to; a venv on top of it can: {make}",
        f'    then own_environment="{folder}" in activate.sh, and: bash setup_env.sh --install',
    ]
    return "\n".join(lines)


def _print_commands(mine):
    """Print what setup_env.sh --install shall run; returns whether it can."""
    lacking = lacks(imported=True)
    if lacking and not can_be_written():
        print(f"{place()}: it cannot be written to", file=sys.stderr)
        return False
    for line in commands(mine.kind, lacking):
        tool = shlex.split(line)[0]
        if shutil.which(tool) is None:
            print(f"{tool} is not on PATH: {line}", file=sys.stderr)
            return False
        print(line)
    return True


if __name__ == "__main__":
    given = own()
    if given is None or given.wrong:
        sys.exit(given.wrong if given else "activate.sh has no own_environment")
    do = _print_commands if sys.argv[1:] == ["--commands"] else _tell
    sys.exit(0 if do(given) else 1)
