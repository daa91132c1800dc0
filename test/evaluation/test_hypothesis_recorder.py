"""Test that the hypotheses of an object are recorded as the refiner sees them, with the shipped weights."""

import numpy as np
import pytest

from vpog_core.evaluation.hypothesis_recorder import (
    ALTERNATIVES,
    CORRECT,
    HypothesisRecorder,
    RecordingConfig,
    pose_error,
    record_hypotheses,
)
from vpog_core.evaluation.hypothesis_records import NORMAL_SCALE, TYPES, HypothesisRecords
from vpog_core.evaluation.pose_error import mssd
from vpog_core.evaluation.recorded_objects import ObjectSources
from vpog_core.geometry.se3 import rotation_x, transform
from vpog_core.inference.networks import Networks
from vpog_core.synthetic.objects import make_object
from vpog_core.types import VPOGError


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> RecordingConfig:
    return RecordingConfig(tmp_path_factory.mktemp("recorded"), device="cpu", images={"clean": 1})


@pytest.fixture(scope="module")
def recorded(config):
    """Record object 0 in one image of each variant; returns what is said of it, and the records."""
    said = record_hypotheses(config, range(1))
    return said, HypothesisRecords.load(config.path(0))


def test_an_object_has_a_file_of_hypotheses_of_each_detection(config, recorded):
    said, records = recorded
    assert [p.name for p in config.output.iterdir()] == ["object_00000.hypotheses.npz"]
    assert len(said) == 1
    assert (said[0].number, said[0].hypotheses, said[0].detections) == (0, len(records), 2)
    assert said[0].correct == np.count_nonzero(records.error < CORRECT)
    side = Networks.load(device="cpu").refiner.config.image_size
    assert records.image.shape == records.render.shape == (len(records), side, side, 3)
    _, counts = np.unique(records.detection, return_counts=True)
    assert (counts > 1).all()
    assert (counts <= ALTERNATIVES + 1).all()


def test_errors_are_of_right_and_wrong_poses(recorded):
    _, records = recorded
    assert np.isfinite(records.error).all()
    assert records.error.min() < CORRECT, "one of two clean images shows the pose"
    assert records.error.max() > 0.5


def test_renders_show_the_object_where_the_image_does(recorded):
    _, records = recorded
    for n in range(len(records)):
        mask, normals = records.mask[n], records.normals[n].astype(float) / NORMAL_SCALE
        # The virtual camera looks at the object, which covers a part of the crop.
        assert 0.1 < mask.mean() < 0.9
        assert (records.render[n][~mask] == 0).all()
        assert (normals[~mask] == 0).all()
        # Rounding to 1 / 127 changes the length by up to sqrt(3) / 254.
        np.testing.assert_allclose(np.linalg.norm(normals[mask], axis=1), 1, atol=0.007)
        # Surfaces that are seen face the camera, but for perspective near the rim.
        assert (normals[mask][:, 2] < 0).mean() > 0.95


def test_a_right_pose_looks_more_like_the_image_than_wrong_ones(recorded):
    _, records = recorded
    best = int(np.argmin(records.error))
    same = np.flatnonzero(records.detection == records.detection[best])

    def similarity(n: int) -> float:
        """Correlate the colours of image and render on the object; light differs, so levels do not count."""
        mask = records.mask[n]
        return np.corrcoef(records.image[n][mask].ravel(), records.render[n][mask].ravel())[0, 1]

    wrong = [n for n in same if records.error[n] > 0.3]
    assert wrong
    assert similarity(best) > np.median([similarity(n) for n in wrong])


def test_the_same_number_gives_the_same_hypotheses(config, recorded):
    _, records = recorded
    again = HypothesisRecorder(config).record(0)
    for name, kind in TYPES.items():
        assert getattr(again, name).dtype == kind
        np.testing.assert_array_equal(getattr(again, name), getattr(records, name))


def test_an_object_that_has_a_file_is_left_as_it_is(config, recorded, monkeypatch):
    monkeypatch.setattr(HypothesisRecorder, "record", lambda *_: pytest.fail("recorded again"))
    before = config.path(0).stat().st_mtime_ns
    shown = []
    assert record_hypotheses(config, range(1), progress=shown.append) == []
    assert shown == [None]
    assert config.path(0).stat().st_mtime_ns == before


def test_an_object_that_cannot_be_used_is_reported(tmp_path):
    (tmp_path / "broken.ply").write_bytes(b"ply")
    sources = ObjectSources((tmp_path / "broken.ply",))
    config = RecordingConfig(tmp_path / "out", sources, device="cpu", images={})
    (said,) = record_hypotheses(config, range(1, 2))
    assert said.number == 1
    assert "broken.ply" in said.problem
    assert not config.path(1).exists()


def test_an_output_that_cannot_be_written_is_an_error(tmp_path, monkeypatch, recorded):
    (tmp_path / "out").write_text("a file")
    monkeypatch.setattr(HypothesisRecorder, "record", lambda *_: recorded[1])
    config = RecordingConfig(tmp_path / "out", device="cpu")
    with pytest.raises(VPOGError, match=r"cannot be written \(.*\): choose another --output\."):
        HypothesisRecorder(config).run(0)


def test_the_error_is_the_mssd_over_all_vertices():
    """The farthest of all vertices is on the hull; thinning it to some 400 points misses it by little."""
    mesh = make_object(900_010, vertices=1500)
    T_true = transform(np.eye(3), [0.0, 0.0, 0.5])
    T_cam_obj = transform(rotation_x(0.3), [0.02, 0.0, 0.55])
    exact = mssd(T_cam_obj, T_true, mesh.vertices) / mesh.diameter
    assert pose_error(mesh, T_cam_obj, T_true) == pytest.approx(exact, rel=0.02)
    assert pose_error(mesh, T_true, T_true) == 0


def test_no_pose_in_any_image_is_an_error(config):
    nothing = RecordingConfig(config.output, device="cpu", images={})
    with pytest.raises(VPOGError, match=r"No pose of object 5 is found in its images: record other ones\."):
        HypothesisRecorder(nothing).record(5)
