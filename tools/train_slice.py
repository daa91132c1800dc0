#!/usr/bin/env python3
"""Train one slice of a run, on a machine lent for minutes that has only torch, numpy and OpenCV.

    python3 tools/train_slice.py --wheels DIR --minutes 9 --output runs/small --pieces OUT experiment=small \\
        data.meshes=[meshes] data.photos=photos

Installs the wheels in DIR (offline, beside the machine's own packages), trains, stops cleanly after the
minutes, and writes weights and state into OUT, in pieces of at most 16 MiB. The next slice goes on from
--output where that is still there, else from `--resume OUT`. The minutes count from the start of this
program; the last validation and the writing come on top.

Where there is a network, the wheels for such a machine, less those of packages it has:

    pip wheel --no-deps -w DIR trimesh embreex mapbox-earcut poselib safetensors scipy pyyaml pillow tqdm \\
        hydra-core 'omegaconf<2.4' antlr4-python3-runtime==4.9.3 lightning pytorch-lightning \\
        lightning-utilities torchmetrics fsspec packaging typing-extensions
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDED = (
    "torch", "numpy", "cv2", "trimesh", "embreex", "mapbox_earcut", "poselib", "safetensors", "scipy", "yaml",
    "PIL", "tqdm", "hydra", "omegaconf", "antlr4", "lightning", "torchmetrics", "fsspec",
)  # fmt: skip


def main() -> int:
    begin = time.monotonic()
    arguments = parse()
    output = Path(arguments.output)
    problem = use_wheels(Path(arguments.wheels), output / "site") if arguments.wheels else ""
    sys.path.insert(0, str(ROOT))
    problem = problem or missing_packages()
    if problem:
        print(f"train_slice: {problem}", file=sys.stderr)
        return 2

    from vpog_core.types import VPOGError

    try:
        report = run_slice(arguments, output, begin)
    except VPOGError as error:
        print(f"train_slice: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report))
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheels", metavar="DIR", help="folder of .whl files to install")
    parser.add_argument("--minutes", type=float, default=9.0, help="(default: %(default)s)")
    parser.add_argument("--output", required=True, metavar="DIR", help="the run's folder on this machine")
    parser.add_argument("--pieces", metavar="DIR", help="where the pieces go (default: OUTPUT/pieces)")
    parser.add_argument("--resume", metavar="DIR", help="pieces of the slice before")
    parser.add_argument(
        "--budget", type=float, default=60.0, metavar="MIB", help="of all pieces (default: %(default)s)"
    )
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="as for `vpog train`")
    return parser.parse_intermixed_args()


def use_wheels(folder: Path, site: Path) -> str:
    """Install wheels into `site`, unless they are there, and import from there; returns what is wrong."""
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        return f"There are no wheels in '{folder}': the head of this file shows how they are made."
    stamp, names = site / "wheels.txt", "\n".join(wheel.name for wheel in wheels)
    if not (stamp.is_file() and stamp.read_text() == names):
        command = [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index",
            "--no-deps", "--no-compile", "--upgrade", "--find-links", str(folder), "--target", str(site),
        ]  # fmt: skip
        done = subprocess.run([*command, *map(str, wheels)], capture_output=True, text=True)
        if done.returncode:
            return f"pip cannot install the wheels in '{folder}': {done.stderr.strip()[-500:]}"
        stamp.write_text(names)
    sys.path.insert(0, str(site))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    return ""


def missing_packages() -> str:
    """Return what cannot be imported, as a sentence, or an empty string."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    return f"This machine lacks {', '.join(missing)}: put their wheels into --wheels." if missing else ""


def run_slice(arguments: argparse.Namespace, output: Path, begin: float) -> dict:
    """Resume, train and pack; return a summary for the log."""
    from vpog_core.training.callbacks import CHECKPOINT
    from vpog_core.training.checkpoint_shards import MIB, pack, unpack
    from vpog_core.training.compose import load_config
    from vpog_core.training.train import train

    pieces = Path(arguments.pieces or output / "pieces")
    resumed = "this folder" if (output / CHECKPOINT).is_file() else None
    if arguments.resume and not resumed:
        resumed = unpack(arguments.resume, output)
    settings = [*defaults(arguments.settings), *arguments.settings, f"output={output}"]
    left = arguments.minutes - (time.monotonic() - begin) / 60
    summary = train(load_config([*settings, f"trainer.minutes={max(left, 0.001)}"]))
    fidelity = pack(output, pieces, int(arguments.budget * MIB))
    return {
        "resumed": resumed, "step": summary.step, "minutes_of_training": round(summary.minutes, 2),
        "minutes_of_slice": round((time.monotonic() - begin) / 60, 2), "state": fidelity,
        "mib": round(sum(f.stat().st_size for f in pieces.iterdir()) / MIB, 1), "scores": summary.scores,
    }  # fmt: skip


def defaults(given: list[str]) -> list[str]:
    """Return settings for such a machine, followed by the given ones.

    All cores but one render; the log is CSV where TensorBoard is missing.
    """
    import torch

    own = []
    if not any(s.startswith("loader.workers=") for s in given):
        cores = len(os.sched_getaffinity(0))
        own.append(f"loader.workers={max(1, cores - 1 if torch.cuda.is_available() else cores // 2)}")
    if not any(s.startswith("trainer.logger=") for s in given) and not importlib.util.find_spec(
        "tensorboard"
    ):
        own.append("trainer.logger=csv")
    return own


if __name__ == "__main__":
    sys.exit(main())
