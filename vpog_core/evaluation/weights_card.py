"""Write the scores of a weights file into its card: Markdown made of scores.json, between two marks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from vpog_core.types import VPOGError
from vpog_core.utils.atomic_file import atomic_write

BEGIN, END = "<!-- begin {}: written by `vpog publish-weights` -->", "<!-- end {} -->"
PARTS = ("per_split", "per_group", "per_visibility")
"""Tables of scores.json that the card shows; scores of objects are on the page of results."""


def scores_block(results: Sequence[Mapping], calibration: str = "") -> str:
    """Return tables of several evaluations, and the output of `vpog calibrate`.

    Args:
        results: what scores.json files hold, in their order.
    """
    methods = list(dict.fromkeys(name for result in results for name in result["baselines"]))
    head = ["", "instances", "AR", "ADD(-S) < 10 %", "calibration error", "ms a detection"]
    head += [f"{name} of {method}" for method in methods for name in ("AR", "ADD(-S)")]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for result in results:
        rows.append(_row(result["title"], result, result["baselines"], methods))
        for part in PARTS:
            names = result.get(part) or {}
            for name in names if len(names) > 1 else ():
                others = {m: b.get(part, {}).get(name) for m, b in result["baselines"].items()}
                rows.append(_row(f"of these {name}{' visible' * (part == 'per_visibility')}", names[name],
                                 others, methods))  # fmt: skip
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines += ["", *(f"    {result['command']}" for result in results)]
    files = {f"{r[k]['name']} {r[k]['sha256']}": None for r in results for k in ("weights", "refiner")}
    lines += ["", f"Files (sha256): {', '.join(files)}."]
    if calibration:
        lines += ["", "Calibration, on scenes it was fitted to and on others:", ""]
        lines += [f"    {line}".rstrip() for line in calibration.strip().splitlines()]
    return "\n".join(lines)


def _row(name: str, scores: Mapping, others: Mapping, methods: Sequence[str]) -> list[str]:
    calibration, seconds = scores.get("calibration"), scores.get("seconds")
    row = [name, str(scores["targets"]), *_both(scores)]
    row.append(f"{calibration['error']:.2f}" if calibration else "")
    row.append(f"{1000 * seconds['detection']:.0f}" if seconds and seconds["detection"] is not None else "")
    for method in methods:
        row += _both(others.get(method) or {})
    return row


def _both(scores: Mapping) -> list[str]:
    if not scores:
        return ["", ""]
    ar = "–" if scores["AR"] is None else f"{scores['AR']:.1f}"
    return [ar, f"{scores['ADD_S_10']:.1f} ({scores['correct']})"]


def write_block(path: Path, name: str, block: str) -> None:
    """Replace the block between its marks in a Markdown file; raises as `with_block`."""
    atomic_write(path, with_block(path, name, block))


def with_block(path: Path, name: str, block: str) -> str:
    """Return the text of a Markdown file with a block between its marks.

    Raises:
        VPOGError: no such file, or one without these marks.
    """
    begin, end = BEGIN.format(name), END.format(name)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise VPOGError(f"There is no card '{path}' ({error.strerror}): give the source tree.") from error
    between = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if len(between.findall(text)) != 1:
        raise VPOGError(f"'{path}' has no place for figures: put the lines '{begin}' and '{end}' into it.")
    return between.sub(lambda _: f"{begin}\n\n{block}\n\n{end}", text)
