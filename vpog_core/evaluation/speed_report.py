"""Write the result of `speed_run` as tables for documents, and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from vpog_core.evaluation.speed_floor import StepCost
from vpog_core.evaluation.speed_run import FrameTimes, SpeedResult
from vpog_core.types import VPOGError
from vpog_core.utils.atomic_file import atomic_write

MARKS = "<!-- bench: begin -->", "<!-- bench: end -->"
"""Comments that enclose the tables in a document."""


def speed_json(result: SpeedResult) -> str:
    """Convert a result to JSON."""
    values = asdict(result)
    for row, step in zip(values["steps"], result.steps, strict=True):
        row["ratio"] = step.ratio
    return json.dumps(values, indent=2)


def speed_tables(result: SpeedResult) -> str:
    """Make the tables of a result, in Markdown."""
    machine, rates = result.machine, result.rates
    cores = f"{machine['device']}, {machine['cores']} cores, threads: {machine['threads']}"
    engines = ", ".join(f"{name} {machine[name]}" for name in dict.fromkeys((machine["engine"], "torch")))
    memory = f"Peak memory {result.memory_mib:.0f} MiB"
    if result.gpu_memory_mib is not None:
        memory += f", of the GPU {result.gpu_memory_mib:.0f} MiB"
    parts = [
        f"{cores}, {engines}, {machine['precision']}. At best {rates.operations / 1e9:.0f} GFLOP/s in a "
        f"matrix product, {rates.bytes / 1e9:.1f} GB/s read and written in a copy. {memory}. "
        f"Onboarding an object: {result.onboarding:.1f} s.",
        "One image, milliseconds from its bytes to the poses (drawing not counted):",
        _frame_table(result.frames),
        "Its stages, medians in milliseconds:",
        _stage_table(result.frames),
        "The network's steps beside their floors:",
        _step_table(result.steps),
    ]
    if result.ratios:
        parts += ["Time of another way over ours, in the same run:", _ratio_table(result.ratios)]
    return "\n\n".join(parts)


def update_document(path: Path, result: SpeedResult) -> None:
    """Replace the tables between the two marks of a document; raises as `split_document`."""
    before, after = split_document(path)
    atomic_write(path, f"{before}{MARKS[0]}\n{speed_tables(result)}\n{MARKS[1]}{after}")


def split_document(path: Path) -> tuple[str, str]:
    """Read what is before and after the two marks of a document.

    Raises:
        VPOGError: there is no such document, or it has no marks.
    """
    begin, end = MARKS
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise VPOGError(f"The document '{path}' cannot be read ({error.strerror}): check --docs.") from error
    before, has_begin, rest = text.partition(begin)
    _, has_end, after = rest.partition(end)
    if not (has_begin and has_end):
        raise VPOGError(f"The document '{path}' has no place for tables: put '{begin}' and '{end}' into it.")
    return before, after


def _frame_table(frames: list[FrameTimes]) -> str:
    rows = [
        [f"{f.detections} {f.name}", f"{f.first:.0f}", f"{f.median:.0f}", f"{f.p95:.0f}",
         f"{f.median / f.detections:.0f}", f"{1e3 / f.median:.1f}"]
        for f in frames
    ]  # fmt: skip
    return _markdown(["objects", "first", "median", "p95", "per detection", "images a second"], rows)


def _stage_table(frames: list[FrameTimes]) -> str:
    names = list(dict.fromkeys(name for f in frames for name in f.stages))
    rows = [[name, *(f"{f.stages[name]:.1f}" if name in f.stages else "" for f in frames)] for name in names]
    return _markdown(["stage", *(f"{f.detections} {f.name}" for f in frames)], rows)


def _step_table(steps: list[StepCost]) -> str:
    rows = [
        [s.network, s.step, str(s.batch), f"{s.gflop:.3g}", f"{s.mib:.1f}", f"{s.floor:.2f}",
         f"{s.milliseconds:.2f}", f"{s.ratio:.1f}"]
        for s in steps
    ]  # fmt: skip
    return _markdown(["network", "step", "batch", "GFLOP", "MiB", "floor, ms", "ours, ms", "ratio"], rows)


def _ratio_table(ratios: dict[str, float]) -> str:
    return _markdown(["other way", "its time over ours"], [[n, f"{r:.2f}"] for n, r in ratios.items()])


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
