import numpy as np
import pytest

from vpog_core.bop.rle import decode_rle
from vpog_core.types import VPOGError

BLOB = np.zeros((6, 9), bool)
BLOB[1:5, 3:8] = True
BLOB[2, 5] = False
BLOB[0, 0] = True
COMPRESSED = "01b03@00MO112005"
"""BLOB as pycocotools 2.0.11 writes it."""


def test_runs_go_down_the_columns():
    mask = decode_rle({"size": [2, 3], "counts": [1, 2, 3]}, "x")
    assert mask.tolist() == [[False, True, False], [True, False, False]]


def test_compressed_masks_are_cocos():
    assert np.array_equal(decode_rle({"size": [6, 9], "counts": COMPRESSED}, "x"), BLOB)


def test_as_pycocotools():
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for shape in ((37, 52), (480, 640)):
        mask = np.kron(rng.random((shape[0] // 4 + 1, shape[1] // 4 + 1)) < 0.4, np.ones((4, 4)))
        mask = mask[: shape[0], : shape[1]].astype(bool)
        rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert np.array_equal(decode_rle({"size": list(shape), "counts": rle["counts"].decode()}, "x"), mask)


@pytest.mark.parametrize("mask", [BLOB, ~BLOB, np.zeros((3, 2), bool), np.ones((3, 2), bool)])
def test_round_trip(mask, encode_rle):
    assert np.array_equal(decode_rle(encode_rle(mask), "x"), mask)


@pytest.mark.parametrize(
    "rle",
    [
        {"counts": [1]},
        {"size": [2, 2], "counts": [1, 2]},
        {"size": [2, 2], "counts": [6, -2]},
        {"size": [2, 2], "counts": "\x01"},
        {"size": [2, 2], "counts": "o"},
        {"size": [10**6, 10**6], "counts": [10**12]},
        {"size": "ab", "counts": []},
        None,
    ],
)
def test_broken_masks_are_refused(rle):
    with pytest.raises(VPOGError, match=r"shard-1: 0003_0004"):
        decode_rle(rle, "shard-1: 0003_0004")
