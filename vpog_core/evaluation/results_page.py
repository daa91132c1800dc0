"""Make docs/results.md of scores.json files.

    python -m vpog_core.evaluation.results_page DIR... > docs/results.md

Every number of the page comes from a file, with the command that makes it again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from vpog_core.evaluation.oracles import STAGES
from vpog_core.evaluation.retrieval_recall import TITLE, retrieval_table
from vpog_core.types import VPOGError

HEAD = """\
# Results

Written by `python -m vpog_core.evaluation.results_page`; nothing in it by hand. What the numbers mean:
[evaluation.md](evaluation.md). All are percentages but the counts, the times and the degrees; AR is the mean
of its parts; errors of rotation and distance are medians.
"""
COLUMNS = ("AR", "AR_VSD", "AR_MSSD", "AR_MSPD", "ADD_S_10", "rotation", "distance", "distance_diameter")
HEADINGS = (
    *("AR", "VSD", "MSSD", "MSPD", "ADD(-S) < 10 %"),
    *("rotation, degrees", "distance, %", "distance, % of diameter"),
)
MAX_PRINTED = 999
PARTS = (
    ("per_split", "split"),
    ("per_group", "image"),
    ("per_visibility", "visible"),
    ("per_object", "object"),
)


def page(results: Sequence[Mapping]) -> str:
    """Make a Markdown page of several evaluations, in their order."""
    return "\n".join([HEAD, _overview(results), *(_section(result) for result in results)])


def read_scores(folder: str | Path) -> dict:
    """Read the scores.json of a folder that `vpog evaluate --output` wrote.

    Raises:
        VPOGError: there is none, or it is not one.
    """
    path = Path(folder) / "scores.json"
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        _section(result)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VPOGError(
            f"'{path}' is not what `vpog evaluate --output {folder}` writes ({error!r}): run that first."
        ) from error
    return result


def _overview(results: Sequence[Mapping]) -> str:
    rows = [
        [result["title"], method, *_numbers(scores)]
        for result in results
        for method, scores in _methods(result).items()
    ]
    return _table(["set", "method", *HEADINGS, "correct"], rows)


def _section(result: Mapping) -> str:
    methods = _methods(result)
    lines = [f"## {result['title']}", "", f"    {result['command']}", ""]
    files = ", ".join(f"{result[k]['name']} (sha256 {result[k]['sha256']})" for k in ("weights", "refiner"))
    lines.append(
        f"{result['targets']} instances in {result['frames']} images; weights {files}. "
        f"{' '.join(result['notes'])}".rstrip()
    )
    lines.append("")
    for key, label in PARTS:
        rows = [
            [name, method, *_numbers(scores[key][name])]
            for name in result.get(key) or {}
            for method, scores in methods.items()
        ]
        if rows:
            lines.append(_table([label, "method", *HEADINGS, "correct"], rows))
    if result["stages"]:
        lines.append(_stages(result["stages"]))
    lines.append(_seconds(methods))
    return "\n".join(lines)


def _stages(stages: Mapping) -> str:
    rows = [["as it is", *_numbers(stages["whole"])]]
    rows += [[text, *_numbers(stages[f"{name}_oracle"])] for name, text in STAGES.items()]
    table = _table(["with the truth for", *HEADINGS, "correct"], rows)
    lost = ", ".join(f"{name} {value:.1f}" for name, value in stages["lost"].items())
    return f"{table}\nPoints of ADD(-S) lost by stage: {lost}.\n\n{_retrieval(stages['retrieval'])}"


def _retrieval(recall: Mapping[str, Mapping]) -> str:
    """Make the table of how often a retrieved view is near the truth; nothing where no view was retrieved."""
    head, rows = retrieval_table(recall)
    return f"{TITLE}\n\n{_table(head, rows)}" if rows else ""


def _seconds(methods: Mapping[str, Mapping]) -> str:
    times = [
        f"{name} {1000 * scores['seconds']['detection']:.0f} ms (score's calibration error "
        f"{scores['calibration']['error']:.3f})"
        for name, scores in methods.items()
    ]
    return f"Median time of a detection: {', '.join(times)}.\n"


def _methods(result: Mapping) -> dict[str, Mapping]:
    return {result["method"]: result, **result["baselines"]}


def _numbers(scores: Mapping) -> list[str]:
    values = [scores.get(key) for key in COLUMNS]
    return [*map(_number, values), f"{scores['correct']} of {scores['targets']}"]


def _number(value: float | None) -> str:
    """Return a number with one digit; how large an error over `MAX_PRINTED` is does not matter."""
    if value is None:
        return "–"
    return f"{value:.1f}" if value < MAX_PRINTED else f"> {MAX_PRINTED}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = [0 if name in ("set", "method", "object", "image", "split", "visible") else 1 for name in head]
    rule = ["---:" if number else "---" for number in text]
    lines = ["| " + " | ".join(row) + " |" for row in (head, rule, *rows)]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", metavar="DIR", help="what `vpog evaluate --output` wrote")
    try:
        sys.stdout.write(page([read_scores(folder) for folder in parser.parse_args(argv).folders]))
    except VPOGError as error:
        print(f"results_page: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
