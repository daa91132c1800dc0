"""Define the trainer's callbacks: write the run's files, stop cleanly, print progress."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import lightning.pytorch as L
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from tqdm import tqdm

from vpog_core.models.checkpoint import save_weights
from vpog_core.types import VPOGError
from vpog_core.utils.atomic_file import atomic_write

CHECKPOINT = "checkpoint.ckpt"
WEIGHTS = "weights.safetensors"
HISTORY = "history.json"
RENAMED_SCORES = {"pose_share": "pose_fraction", "near_pose_share": "near_pose_fraction"}
"""New names of scores in the history of runs that earlier versions began."""
HEADLINE = (
    "loss", "seen_accuracy", "unseen_accuracy", "flow_error", "visibility_accuracy", "retrieval_error",
    "rotation_error", "rotation_start", "translation_error", "translation_start",
)  # fmt: skip


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically, and reads tensors and plain values alone from them."""

    def save_checkpoint(self, checkpoint: dict, path, storage_options=None) -> None:
        partial = Path(path).with_suffix(".partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)

    def load_checkpoint(self, path, map_location="cpu", weights_only=True) -> dict:
        return read_checkpoint(path)


def read_checkpoint(path: str | Path) -> dict:
    """Return a checkpoint's content.

    Raises:
        VPOGError: it cannot be read.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make torch.load raise nearly anything
        reason = (str(error).splitlines() or ["empty"])[0][:100]
        raise VPOGError(
            f"'{path}' is no readable checkpoint ({reason}): delete it, or choose another output."
        ) from error


class RunFiles(L.Callback):
    """Writes checkpoint.ckpt, weights.safetensors (averaged) and history.json after every validation.

    Attributes:
        seconds: of training so far, over all slices; history: one entry for each validation.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.seconds, self.history = folder, 0.0, []
        self._last = time.monotonic()

    def state_dict(self) -> dict:
        return {"seconds": self.seconds, "history": self.history}

    def load_state_dict(self, state_dict: dict) -> None:
        self.seconds = state_dict["seconds"]
        self.history = [
            {RENAMED_SCORES.get(name, name): value for name, value in entry.items()}
            for entry in state_dict["history"]
        ]

    def on_train_start(self, trainer, pl_module) -> None:
        self._last = time.monotonic()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        now = time.monotonic()
        self.seconds, self._last = self.seconds + now - self._last, now

    def on_validation_end(self, trainer, pl_module) -> None:
        if trainer.sanity_checking:
            return
        scores = {
            k.removeprefix("val/"): float(v) for k, v in trainer.callback_metrics.items() if "val/" in k
        }
        self.history.append({"step": trainer.global_step, "minutes": self.seconds / 60, **scores})
        trainer.save_checkpoint(self.folder / CHECKPOINT)
        if trainer.is_global_zero:
            save_weights(pl_module.averaged, self.folder / WEIGHTS, {"steps": str(trainer.global_step)})
            atomic_write(self.folder / HISTORY, json.dumps(self.history, indent=1))
        trainer.strategy.barrier("run files")
        self._last = time.monotonic()


class CountBatches(L.Callback):
    """Counts the batches of a resumed run as if its present settings had held from the beginning.

    Lightning asks this count when a step is complete, when to validate and when the data end; with another
    `accumulate` than the run was begun with its own count would fit none of them.
    """

    def on_load_checkpoint(self, trainer, pl_module, checkpoint: dict) -> None:
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        done = checkpoint["global_step"] * trainer.accumulate_grad_batches
        for counts in (progress["total"], progress["current"]):
            counts.update(dict.fromkeys(counts, done))


class StopCleanly(L.Callback):
    """Ends the run after the current step, validated and saved: when the time is up, at Ctrl-C, at SIGTERM.

    Args:
        deadline: in `time.monotonic()`, infinity for none.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline, self.interrupted = deadline, False
        self._before: dict[int, object] = {}

    def on_train_start(self, trainer, pl_module) -> None:
        if threading.current_thread() is threading.main_thread():  # signals arrive in the main thread only
            self._before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}

    def on_train_end(self, trainer, pl_module) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # The gradient of half a step would be lost.
        over = self.interrupted or time.monotonic() > self.deadline
        if trainer.world_size > 1:
            over = trainer.strategy.reduce_boolean_decision(over, all=False)
        trainer.should_stop = trainer.should_stop or over

    def _note(self, number, frame) -> None:
        if self.interrupted:  # the second interrupt ends the run at once
            raise KeyboardInterrupt
        self.interrupted = True


class ProgressLines(L.Callback):
    """Prints a line to stderr for every validation, and for one step in `every`.

    Args:
        every: steps between two lines; 0 where a progress bar shows them.
    """

    def __init__(self, every: int) -> None:
        self.every, self._begin = every, None

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        step, now = trainer.global_step, time.monotonic()
        self._begin = self._begin or (step, now)
        if trainer.is_global_zero and self.every and step % self.every == 0 and step > self._begin[0]:
            rate = (step - self._begin[0]) / (now - self._begin[1])
            shown = {k: float(v) for k, v in trainer.progress_bar_metrics.items() if k != "v_num"}
            print(
                f"step {step}/{trainer.max_steps} {rate:.2f}/s {format_scores(shown)}",
                file=sys.stderr,
                flush=True,
            )

    def on_validation_end(self, trainer, pl_module) -> None:
        if trainer.is_global_zero and not trainer.sanity_checking:
            scores = {k[4:]: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
            line = f"validated at step {trainer.global_step}: {headline(scores)}"
            tqdm.write(line, file=sys.stderr)


def headline(scores: dict[str, float]) -> str:
    """Return the most important scores as text."""
    return format_scores({key: scores[key] for key in HEADLINE if key in scores})


def format_scores(scores: dict[str, float]) -> str:
    """Return scores as text: `loss 2.345 ...`."""
    return " ".join(f"{key} {value:.3f}" for key, value in scores.items())
