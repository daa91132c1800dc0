"""Run an evaluation and write its files: the results CSVs, scores.json and report.html."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from vpog_core.evaluation import detections
from vpog_core.evaluation.benchmark import Benchmark
from vpog_core.evaluation.errors import Estimate, TargetErrors
from vpog_core.evaluation.frame_run import VPOG, EvaluationConfig
from vpog_core.evaluation.matching import hits
from vpog_core.evaluation.oracles import STAGES
from vpog_core.evaluation.report import write_report
from vpog_core.evaluation.results_csv import write_results
from vpog_core.evaluation.retrieval_recall import retrieval_recall
from vpog_core.evaluation.runner import Progress, run
from vpog_core.evaluation.scores import score, summary
from vpog_core.inference.options import DEFAULT_OPTIONS
from vpog_core.utils.fingerprint import SHORT, digest

NO_DEPTH = "The set has no depth maps: scored without VSD, AR is the mean of AR_MSSD and AR_MSPD."
MEDIANS = ("rotation", "distance", "distance_diameter")
STAGE_KEYS = ("AR_MSSD", "AR_MSPD", "ADD_S_10", *MEDIANS, "correct", "targets")


def evaluate(
    config: EvaluationConfig,
    output: Path,
    workers: int = 1,
    command: str = "",
    progress: Progress | None = None,
    cluster: str | None = None,
) -> dict:
    """Run an evaluation and write its files into the folder `output`; returns what scores.json holds.

    Args:
        command: how it was called, for the files; cluster: see `runner.run`.

    Raises:
        VPOGError: weights, dataset or detections that cannot be used.
    """
    # Run all frames.
    benchmark = config.benchmark()
    notes = [*benchmark.notes, *detections.open_detections(config.detections, benchmark).notes]
    output.mkdir(parents=True, exist_ok=True)
    records = run(config, benchmark, output / "frames", workers, progress, cluster)
    # Score each method, and write its poses.
    names = {i: benchmark.object(i).name for i in benchmark.object_ids}
    methods = {}
    for method in config.methods:
        found = estimates_of(records, method)
        write_results(output / f"{method}_{_file_part(benchmark.name)}.csv", found)
        methods[method] = {
            **score(errors_of(records, method), names, benchmark.groups, benchmark.splits),
            "seconds": seconds(records, method),
            "without_pose": sum(len(record["methods"][method]["reasons"]) for record in records),
        }
    # Write scores and report.
    first, *others = config.methods
    notes += _without_depth(benchmark) + _without_pose(records, first)
    result = {
        "title": title(config, benchmark),
        "command": command,
        **_description(config, benchmark),
        "notes": notes,
        **methods[first],
        "stages": stages(records, methods[VPOG], benchmark.splits)
        if config.stages and VPOG in config.methods
        else None,
        "method": first,
        "baselines": {name: methods[name] for name in others},
    }
    (output / "scores.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    write_report(output / "report.html", result, records, benchmark)
    return result


def title(config: EvaluationConfig, benchmark: Benchmark) -> str:
    """Return a title: what was evaluated, on what, with which boxes."""
    return f"{benchmark.name}: {detections.describe_detections(config.detections)}"


def _description(config: EvaluationConfig, benchmark: Benchmark) -> dict:
    weights, refiner = config.weights_files
    return {
        "dataset": benchmark.name,
        "detections": detections.describe_detections(config.detections),
        "depth": benchmark.has_depth,
        "frames": len(benchmark.keys),
        "weights": _file_named(weights),
        "refiner": _file_named(refiner),
        # Print the mode, and options that differ from their defaults.
        "options": {
            name: value
            for name, value in asdict(config.options).items()
            if name == "mode" or value != getattr(DEFAULT_OPTIONS, name)
        },
    }


def _file_named(path: Path) -> dict[str, str]:
    """Return name and hash of a weights file."""
    return {"name": path.stem, "sha256": digest([path])[:SHORT]}


def _without_depth(benchmark: Benchmark) -> list[str]:
    return [] if benchmark.has_depth else [NO_DEPTH]


def _without_pose(records: Sequence[dict], method: str) -> list[str]:
    """Return a sentence on the detections without a pose, with the most frequent reason."""
    reasons = Counter(reason for record in records for reason in record["methods"][method]["reasons"])
    if not reasons:
        return []
    text, times = reasons.most_common(1)[0]
    total = sum(record["detections"] for record in records)
    return [f"{reasons.total()} of {total} detections have no pose, {times} of them because: {text}"]


def errors_of(records: Sequence[dict], method: str) -> list[TargetErrors]:
    """Return a method's errors over all frames."""
    return [TargetErrors.from_json(t) for record in records for t in record["methods"][method]["errors"]]


def estimates_of(records: Sequence[dict], method: str) -> dict[tuple[int, int], list[Estimate]]:
    """Return a method's estimates by frame."""
    return {
        tuple(record["key"]): [
            Estimate(**{**e, "T_cam_obj": np.array(e["T_cam_obj"])})
            for e in record["methods"][method]["estimates"]
        ]
        for record in records
    }


def seconds(records: Sequence[dict], method: str) -> dict:
    """Compute the median seconds of a frame and of a detection, and of each stage for a detection.

    The first frame of a process, which warms up, weighs no more than any other in a median.
    """
    used = [(r["methods"][method], r["detections"]) for r in records if r["detections"]]
    if not used:
        return {"frame": 0.0, "detection": 0.0, "stages": {}}
    spent: dict[str, list[float]] = defaultdict(list)
    for run_, count in used:
        for stage, value in run_["timings"].items():
            spent[stage].append(value / count)
    return {
        "frame": float(np.median([run_["seconds"] for run_, _ in used])),
        "detection": float(np.median([run_["seconds"] / count for run_, count in used])),
        "stages": {stage: float(np.median(values)) for stage, values in spent.items()},
    }


def stages(records: Sequence[dict], whole: Mapping, splits: Mapping[int, str]) -> dict:
    """Summarise the oracles: percentages with the truth in place of a stage, and what each stage loses.

    Losses are fractions of instances with ADD(-S) under 10 %, one stage after the other: retrieval's is what
    its oracle gains over the whole; matching's what its oracle gains over that; the rest is PnP's.
    """
    oracle_records = [record["stages"] for record in records if "stages" in record]
    out: dict = {"whole": {key: whole[key] for key in STAGE_KEYS}}
    for name in STAGES:
        targets = [TargetErrors.from_json(t) for stage in oracle_records for t in stage["errors"][name]]
        of_stage = summary(hits(targets))
        out[f"{name}_oracle"] = {key: of_stage[key] for key in STAGE_KEYS}
    out["retrieval"] = retrieval_recall(records, splits)
    with_true_cluster, both = out["retrieval_oracle"]["ADD_S_10"], out["both_oracle"]["ADD_S_10"]
    out["lost"] = {
        "retrieval": with_true_cluster - whole["ADD_S_10"],
        "matching": both - with_true_cluster,
        "pnp": 100.0 - both,
    }
    return out


def result_lines(result: Mapping) -> list[str]:
    """Return lines for the end of the run, one for each method and split; our method over all is the last.

    AR with its parts, ADD(-S) with counts, median errors.
    """
    lines = []
    for name, scores in {**result["baselines"], result["method"]: result}.items():
        splits = scores.get("per_split", {})
        if len(splits) > 1:
            lines += [f"{name}, {split}: {_numbers(part)}" for split, part in splits.items()]
        lines.append(f"{name}: {_numbers(scores)}")
    return lines


def _numbers(scores: Mapping) -> str:
    parts = ", ".join(
        f"{name[3:]} {scores[name]:.1f}"
        for name in ("AR_VSD", "AR_MSSD", "AR_MSPD")
        if scores[name] is not None
    )
    return (
        f"AR {scores['AR']:.1f} ({parts}), ADD(-S) < 10 %: {scores['ADD_S_10']:.1f} % "
        f"({scores['correct']} of {scores['targets']}), {_medians(scores)}"
    )


def _medians(scores: Mapping) -> str:
    if scores["rotation"] is None or scores["distance"] is None:
        return "no pose for half of them or more"
    return (
        f"median {scores['rotation']:.1f} degrees and {scores['distance']:.1f} % of the distance "
        f"({scores['distance_diameter']:.1f} % of the diameter)"
    )


def _file_part(name: str) -> str:
    """Convert a dataset's name to the form of BOP's file names: dataset-split, no underscores."""
    return name.split(",")[0].replace("_", "").replace(" ", "-")
