"""Test that recorded hypotheses come back from their files, and that other files are refused."""

from dataclasses import replace

import numpy as np
import pytest

from vpog_core.evaluation.hypothesis_records import SUFFIX, TYPES, HypothesisRecords
from vpog_core.types import VPOGError

SIDE = 8


def records(count: int, seed: int = 0) -> HypothesisRecords:
    """Draw hypotheses of which two each are of one detection."""
    rng = np.random.default_rng(seed)
    shape = (count, SIDE, SIDE, 3)
    return HypothesisRecords(
        image=rng.integers(0, 256, shape, dtype=np.uint8),
        render=rng.integers(0, 256, shape, dtype=np.uint8),
        normals=rng.integers(-127, 128, shape, dtype=np.int8),
        mask=rng.random(shape[:3]) < 0.5,
        error=rng.random(count, dtype=np.float32),
        detection=np.arange(count) // 2,
    )


def assert_same(one: HypothesisRecords, other: HypothesisRecords) -> None:
    for name, kind in TYPES.items():
        assert getattr(one, name).dtype == kind
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("count", [0, 5])
def test_what_is_saved_is_loaded(count, tmp_path):
    path = tmp_path / "new" / f"object{SUFFIX}"
    records(count).save(path)
    assert_same(HypothesisRecords.load(path), records(count))
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_detections_of_several_files_stay_apart():
    parts = [records(5), records(0), records(4, seed=1)]
    joined = HypothesisRecords.join(parts)
    assert len(joined) == 9
    assert joined.detection.tolist() == [0, 0, 1, 1, 2, 3, 3, 4, 4]
    assert parts[2].detection.tolist() == [0, 0, 1, 1], "the parts are as they were"
    np.testing.assert_array_equal(joined.image[5:], parts[2].image)
    np.testing.assert_array_equal(joined.error, np.concatenate([part.error for part in parts]))
    assert_same(HypothesisRecords.join(parts[:1]), parts[0])


def refused(path) -> str:
    """Return the one sentence that a file is refused with."""
    with pytest.raises(VPOGError) as caught:
        HypothesisRecords.load(path)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert sentence.endswith("by vpog record-hypotheses.")
    assert "\n" not in sentence
    return sentence


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / f"object{SUFFIX}"
    refused(path)
    records(5).save(path)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(content)
        refused(path)


def test_a_file_that_lacks_an_array_is_refused(tmp_path):
    path = tmp_path / f"object{SUFFIX}"
    np.savez(path, **{name: each for name, each in vars(records(5)).items() if name != "mask"})
    assert "mask" in refused(path)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("error", lambda error: error.astype(np.float64)),
        ("normals", lambda normals: normals.astype(np.float32) / 127),
        ("image", lambda image: image[:, :-1]),
        ("detection", lambda detection: detection[:-1]),
        ("mask", lambda mask: mask[..., None]),
    ],
)
def test_arrays_of_another_type_or_shape_are_refused(name, change, tmp_path):
    path = tmp_path / f"object{SUFFIX}"
    made = records(5)
    replace(made, **{name: change(getattr(made, name))}).save(path)
    assert "is needed" in refused(path)
