"""Test the report's page with made-up estimates, without any network."""

import base64
import re
from dataclasses import asdict

import cv2
import numpy as np
import pytest

from vpog_core.evaluation.bop_benchmark import BopBenchmark
from vpog_core.evaluation.charts import bars, line_chart, reliability_chart
from vpog_core.evaluation.errors import frame_errors
from vpog_core.evaluation.evaluate import errors_of, seconds
from vpog_core.evaluation.figures import ESTIMATE, TRUTH, best_and_worst
from vpog_core.evaluation.report import write_report
from vpog_core.evaluation.scores import score


@pytest.fixture(scope="module")
def benchmark(bop_case):
    return BopBenchmark(bop_case[0])


@pytest.fixture(scope="module")
def records(benchmark, bop_case):
    objects = {i: benchmark.object(i) for i in benchmark.object_ids}
    out = []
    for key in benchmark.keys:
        frame, found = benchmark.frame(key), bop_case[1][key]
        method = {
            "estimates": [{**asdict(e), "T_cam_obj": e.T_cam_obj.tolist()} for e in found],
            "errors": [t.to_json() for t in frame_errors(frame, objects, found)],
            "reasons": [],
            "seconds": 0.4,
            "timings": {"crop": 0.1, "match": 0.3},
        }
        out.append({"key": list(key), "detections": 4, "methods": {"vpog": method}})
    return out


@pytest.fixture(scope="module")
def page(benchmark, records, tmp_path_factory):
    result = {
        **score(errors_of(records, "vpog"), benchmark.dataset.names, {}, {}),
        "title": "made <b>up</b>", "command": "vpog evaluate", "notes": [], "method": "vpog", "baselines": {},
        "frames": 6, "stages": None, "options": {}, "without_pose": 3, "seconds": seconds(records, "vpog"),
        "weights": {"name": "none", "sha256": "0"},
        "refiner": {"name": "corrects", "sha256": "1"},
    }  # fmt: skip
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, result, records, benchmark)
    return path.read_text(encoding="utf-8")


def test_the_page_needs_nothing_beside_it_and_runs_nothing(page):
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "<script" not in page
    assert "prefers-color-scheme: dark" in page


def test_text_from_outside_is_escaped(page):
    assert "made &lt;b&gt;up&lt;/b&gt;" in page
    assert "<b>up</b>" not in page


def test_pictures_show_truth_and_estimate(page):
    found = re.findall(r"data:image/jpeg;base64,([\w+/=]+)", page)
    assert 6 <= len(found) <= 16
    worst = cv2.imdecode(np.frombuffer(base64.b64decode(found[0]), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    for colour in (TRUTH, ESTIMATE):
        # JPEG smears a thin line's colour by some tens of levels.
        near = np.abs(worst.astype(int) - colour).sum(axis=-1) < 90
        assert near.sum() > 20


def test_the_worst_are_worse_than_the_best_and_no_object_fills_the_row(records):
    best, worst = best_and_worst(errors_of(records, "vpog"), 4)
    assert max(each.mspd for each in best) < min(each.mspd for each in worst)
    for row in (best, worst):
        ids = [each.obj_id for each in row]
        assert max(ids.count(i) for i in ids) <= 2


def test_stage_times_are_told_for_a_detection(records):
    told = seconds(records, "vpog")
    assert told["frame"] == pytest.approx(0.4)
    assert told["detection"] == pytest.approx(0.1)
    assert told["stages"] == pytest.approx({"crop": 0.025, "match": 0.075})


def test_charts_put_points_where_they_belong():
    svg = line_chart({"a": [[0.1, 0.0], [0.5, 100.0]]}, "x", "y")
    (x0, y0), (x1, y1) = (map(float, p.split(",")) for p in re.search(r'points="(.*?)"', svg)[1].split())
    assert x0 < x1
    assert y1 < y0, "up is more"
    assert 'cx="' in reliability_chart([[0.5, 0.25, 3]])
    assert "-2.0 points" in bars({"pnp": -2.0}, "points")
