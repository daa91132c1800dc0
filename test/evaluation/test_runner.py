"""Test how an evaluation runs and keeps its frames, with the classical method, which needs no network."""

import json
import os
import shutil

import pytest

from vpog_core.evaluation import baseline_sift
from vpog_core.evaluation.frame_run import SIFT, EvaluationConfig
from vpog_core.evaluation.runner import FrameStore, run, run_key
from vpog_core.inference.options import Options
from vpog_core.types import VPOGError


@pytest.fixture(autouse=True)
def small(tmp_path_factory, monkeypatch):
    """Use templates of 48 pixels in place of 224, kept from test to test."""
    monkeypatch.setattr(baseline_sift, "TEMPLATE_SIZE", 48)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "runner_cache"))


def config_for(root, **more) -> EvaluationConfig:
    return EvaluationConfig(**{"dataset": str(root), "methods": (SIFT,), "stages": False, "limit": 2, **more})


def run_reporting(config: EvaluationConfig, folder) -> tuple[list[dict], list[tuple[str, int, int]]]:
    """Return the records, and the progress that was reported."""
    steps: list = []
    records = run(config, config.benchmark(), folder, progress=lambda *step: steps.append(step))
    return records, steps


def poses(records: list[dict]) -> list:
    """Drop the seconds of a record, which may change from run to run."""
    return [(r["key"], [e["T_cam_obj"] for e in r["methods"][SIFT]["estimates"]]) for r in records]


def test_frames_come_in_order_and_are_kept(bop_case, tmp_path):
    config = config_for(bop_case[0])
    records, steps = run_reporting(config, tmp_path)
    assert [tuple(record["key"]) for record in records] == config.benchmark().keys == [(1, 0), (1, 1)]
    assert steps == [
        *(("objects", n, 3) for n in (1, 2, 3)),
        *(("frames", n, 2) for n in (0, 1, 2)),
    ]
    again, steps = run_reporting(config, tmp_path)
    assert again == records
    assert steps == [], "nothing is onboarded or computed for frames that are there"
    more, steps = run_reporting(config_for(bop_case[0], limit=3), tmp_path)
    assert more[:2] == records
    assert steps[-2:] == [("frames", 2, 3), ("frames", 3, 3)], "a longer run computes what it lacks"


def test_a_frame_half_written_or_of_another_key_is_computed_again(bop_case, tmp_path):
    config = config_for(bop_case[0])
    records, _ = run_reporting(config, tmp_path)
    first, second = sorted(tmp_path.rglob("*.json"))
    first.write_text(first.read_text()[:40])
    second.write_text(json.dumps({"key": [9, 9]}))
    again, steps = run_reporting(config, tmp_path)
    assert poses(again) == poses(records)
    assert [step for step in steps if step[0] == "frames"] == [("frames", n, 2) for n in (0, 1, 2)]


def test_a_part_has_the_key_of_the_whole(bop_case):
    config = config_for(bop_case[0])
    key = run_key(config, config.benchmark())
    for other in (config_for(bop_case[0], limit=None), config_for(f"{bop_case[0]}/../made")):
        assert run_key(other, other.benchmark()) == key
    part = EvaluationConfig(objects=1, crops=1, levels=("clean",), splits=("textured",))
    assert run_key(part, part.benchmark()) == run_key(EvaluationConfig(), EvaluationConfig().benchmark())


def test_whatever_may_change_a_pose_changes_the_key(bop_case, tmp_path):
    root = shutil.copytree(bop_case[0], tmp_path / "made")
    detections, weights = tmp_path / "d.json", tmp_path / "w.safetensors"
    entry = {"scene_id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}

    def key(**more) -> str:
        config = config_for(root, **more)
        return run_key(config, config.benchmark())

    keys = [
        key(),
        key(options=Options(mode="global")),
        key(options=Options(refinements=0)),
        key(methods=(SIFT, "vpog")),
        key(stages=True),
    ]
    for score in (0.5, 0.6):
        detections.write_text(json.dumps([{**entry, "score": score}]))
        keys.append(key(detections=str(detections)))
    for content in (b"one", b"two"):
        weights.write_bytes(content)
        keys.append(key(weights=str(weights)))
    scene = root / "test" / "000001" / "scene_gt.json"
    gt = json.loads(scene.read_text())
    gt["0"][0]["cam_t_m2c"][0] += 1.0
    scene.write_text(json.dumps(gt))
    keys.append(key())
    assert len(set(keys)) == len(keys)
    with pytest.raises(VPOGError, match=r"no file '.*none\.safetensors'"):
        key(weights=str(tmp_path / "none.safetensors"))


def test_images_depth_maps_masks_and_models_are_part_of_the_key(bop_case, tmp_path):
    root = shutil.copytree(bop_case[0], tmp_path / "made")
    scene = root / "test" / "000001"

    def replace(name: str) -> None:
        # Of the same size: the file's time tells that it is another one.
        path = scene / "rgb" / name
        state = path.stat()
        path.write_bytes(path.read_bytes()[::-1])
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))

    def add_mask() -> None:
        (scene / "mask_visib").mkdir()
        (scene / "mask_visib" / "000000_000000.png").write_bytes(b"mask")

    def key() -> str:
        config = config_for(root)
        return run_key(config, config.benchmark())

    keys = [key()]
    for change in (
        lambda: replace("000000.png"),
        lambda: replace("000002.png"),  # beyond --limit: a part of a run has the key of the whole
        lambda: shutil.rmtree(scene / "depth"),
        add_mask,
        lambda: (root / "models" / "obj_000001.png").write_bytes(b"texture"),
        lambda: shutil.copytree(root / "models", root / "models_eval"),
        lambda: (root / "models_eval" / "obj_000002.ply").touch(),
    ):
        change()
        keys.append(key())
    assert len(set(keys)) == len(keys)
    (scene / "rgb" / "000077.png").write_bytes(b"an image without targets")
    assert key() == keys[-1]


def test_a_record_is_there_whole_or_not_at_all(tmp_path):
    store = FrameStore(tmp_path, "key")
    assert (3, 17) not in store
    store.write((3, 17), {"key": [3, 17], "x": 1.5})
    assert (3, 17) in store
    assert store.read((3, 17)) == {"key": [3, 17], "x": 1.5}
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["000003_000017.json"]
    with pytest.raises(TypeError):
        store.write((3, 18), {"key": [3, 18], "x": object()})
    assert (3, 18) not in store
