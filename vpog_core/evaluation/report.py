"""Write the report of an evaluation: one HTML file without dependencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from vpog_core.evaluation.benchmark import Benchmark
from vpog_core.evaluation.charts import bars, line_chart, reliability_chart
from vpog_core.evaluation.errors import TargetErrors
from vpog_core.evaluation.figures import FigureEntry, best_and_worst, draw_figure
from vpog_core.evaluation.oracles import STAGES
from vpog_core.evaluation.report_style import STYLE
from vpog_core.evaluation.retrieval_recall import TITLE, retrieval_table

COLUMNS = (
    ("AR", "AR"),
    ("VSD", "AR_VSD"),
    ("MSSD", "AR_MSSD"),
    ("MSPD", "AR_MSPD"),
    ("ADD(-S)", "ADD_S_10"),
    ("rotation, degrees", "rotation"),
    ("distance, %", "distance"),
    ("distance, % of diameter", "distance_diameter"),
)
MAX_FIGURES = 8
X_LABELS = {
    "VSD": "VSD threshold (mean over tolerances)",
    "MSSD": "MSSD threshold, of the diameter",
    "MSPD": "MSPD threshold, pixels at width 640",
}


def write_report(path: Path, result: Mapping, records: Sequence[dict], benchmark: Benchmark) -> None:
    """Write the page.

    Args:
        result: what scores.json holds; records: of all frames, for the images.
    """
    parts = [
        _head(result),
        _methods(result),
        _curves(result),
        _parts_tables(result),
        _stages(result),
        _trust_and_time(result),
        _figures(result, records, benchmark),
        _foot(result),
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(result['title'])}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )
    path.write_text(page, encoding="utf-8")


def _head(result: Mapping) -> str:
    cards = "".join(
        f'<div class="card">{label}<div class="big">{_number(result[key])}</div></div>'
        for label, key in COLUMNS
        if result[key] is not None
    )
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in result["notes"])
    return (
        f"<h1>{escape(result['title'])}</h1>"
        f'<p class="soft">{result["targets"]} instances in {result["frames"]} images, '
        f"{escape(result['method'])} with {escape(result['weights']['name'])}, percent; errors of rotation "
        f"and distance are medians. ADD(-S): {result['correct']} of {result['targets']} within 10 % of the "
        f"diameter; "
        f"{result['without_pose']} detections without a pose.</p>{notes}"
        f'<div class="row">{cards}</div>'
    )


def _methods(result: Mapping) -> str:
    if not result["baselines"]:
        return ""
    return "<h2>Beside others, same boxes</h2>" + _table("method", _methods_of(result))


def _curves(result: Mapping) -> str:
    charts = []
    for kind, label in X_LABELS.items():
        if kind in result["recall"]:
            curves = {name: scores["recall"][kind] for name, scores in _methods_of(result).items()}
            charts.append(f'<div class="card"><h3>{kind}</h3>{line_chart(curves, label, "recall, %")}</div>')
    return f'<h2>Recall</h2><div class="row">{"".join(charts)}</div>'


def _parts_tables(result: Mapping) -> str:
    out = ""
    kinds = (
        ("per_split", "By split", "split"),
        ("per_group", "By kind of image", "kind"),
        ("per_visibility", "By visibility", "visible"),
        ("per_object", "By object", "object"),
    )
    for key, heading, label in kinds:
        if result.get(key):
            tables = "".join(
                f'<div class="card scroll"><h3>{escape(name)}</h3>{_table(label, scores[key])}</div>'
                for name, scores in _methods_of(result).items()
            )
            out += f'<h2>{heading}</h2><div class="row">{tables}</div>'
    return out


def _retrieval(recall: Mapping[str, Mapping]) -> str:
    """Make the table of how often a retrieved view is near the truth; nothing where no view was retrieved."""
    head, rows = retrieval_table(recall)
    if not rows:
        return ""
    first = "".join(f"<th>{text}</th>" for text in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    table = f"<table><tr>{first}</tr>{body}</table>"
    return f'<p class="soft">{TITLE}</p><div class="scroll">{table}</div>'


def _stages(result: Mapping) -> str:
    stages = result["stages"]
    if not stages:
        return ""
    rows = {"as it is": stages["whole"], **{text: stages[f"{name}_oracle"] for name, text in STAGES.items()}}
    retrieval = _retrieval(stages["retrieval"])
    lost = bars(stages["lost"], "points")
    return (
        "<h2>Where it is lost</h2>"
        f'<div class="row"><div class="card scroll">{_table("with the truth for", rows)}{retrieval}</div>'
        f'<div class="card"><h3>ADD(-S) lost by</h3>{lost}</div></div>'
    )


def _trust_and_time(result: Mapping) -> str:
    calibration, spent = result["calibration"], result["seconds"]
    stages = {name: 1000 * value for name, value in spent["stages"].items()}
    return (
        '<h2>Score and time</h2><div class="row">'
        f'<div class="card"><h3>Is the score a probability?</h3>{reliability_chart(calibration["bins"])}'
        f'<div class="soft">mean difference {calibration["error"]:.3f}; dots grow with their number'
        "</div></div>"
        f'<div class="card"><h3>Time for a detection</h3>{bars(stages, "ms", 0)}'
        f'<div class="soft">median {1000 * spent["detection"]:.0f} ms a detection, '
        f"{1000 * spent['frame']:.0f} ms an image</div></div></div>"
    )


def _figures(result: Mapping, records: Sequence[dict], benchmark: Benchmark) -> str:
    method = result["method"]
    by_key = {tuple(record["key"]): record for record in records}
    targets = [TargetErrors.from_json(t) for r in records for t in r["methods"][method]["errors"]]
    best, worst = best_and_worst(targets, MAX_FIGURES)
    out = ""
    for heading, entries in (("Worst poses", worst), ("Best poses", best)):
        figures = "".join(_figure(each, benchmark, by_key[each.key], method) for each in entries)
        out += f'<h2>{heading}</h2><div class="row">{figures}</div>'
    return out + '<p class="soft">Green: the truth. Orange: the estimate.</p>'


def _figure(entry: FigureEntry, benchmark: Benchmark, record: dict, method: str) -> str:
    name = escape(benchmark.object(entry.obj_id).name)
    far = f"{100 * entry.mssd:.0f} %" if entry.mssd < 10 else "more than 100 %"
    caption = (
        f"{name}, scene {entry.key[0]}, image {entry.key[1]}<br>MSSD {far} of the diameter, "
        f"MSPD {entry.mspd:.0f} px, score {entry.score:.2f}"
    )
    uri = draw_figure(entry, benchmark, record, method)
    return f'<figure><img src="{uri}" alt="{name}"><figcaption>{caption}</figcaption></figure>'


def _foot(result: Mapping) -> str:
    options = ", ".join(f"{k} {v}" for k, v in result["options"].items()) or "default options"
    files = ", ".join(f"{result[k]['name']}, sha256 {result[k]['sha256']}" for k in ("weights", "refiner"))
    return (
        f"<h2>How</h2><p><code>{escape(result['command'])}</code></p>"
        f'<p class="soft">weights {escape(files)}; {escape(options)}</p>'
    )


def _methods_of(result: Mapping) -> dict[str, Mapping]:
    return {result["method"]: result, **result["baselines"]}


def _table(label: str, rows: Mapping[str, Mapping]) -> str:
    """Make a table with a row for each name and the columns that some row has; the last column is a count."""
    columns = [(text, key) for text, key in COLUMNS if any(row.get(key) is not None for row in rows.values())]
    head = "".join(f"<th>{text}</th>" for text, _ in columns)
    body = "".join(
        f"<tr><td>{escape(name)}</td>"
        + "".join(f"<td>{_number(row.get(key))}</td>" for _, key in columns)
        + f"<td>{row['correct']} / {row['targets']}</td></tr>"
        for name, row in rows.items()
    )
    first = f"<tr><th>{escape(label)}</th>{head}<th>correct</th></tr>"
    return f'<div class="scroll"><table>{first}{body}</table></div>'


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
