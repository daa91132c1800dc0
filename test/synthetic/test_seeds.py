import ast
from itertools import combinations
from pathlib import Path

import pytest

from vpog_core.synthetic import demo_objects, seeds
from vpog_core.types import VPOGError

RANGES = {name: value for name, value in vars(seeds).items() if isinstance(value, range)}
TESTS = Path(__file__).parents[1]


def test_no_object_has_two_purposes():
    assert len(RANGES) == 8
    for (name, one), (other, two) in combinations(RANGES.items(), 2):
        assert one.stop <= two.start or two.stop <= one.start, f"{name} and {other}"


def test_every_purpose_has_the_seeds_it_always_had():
    # Scores and cached objects are of these objects: another number is another object.
    assert {name: each.start for name, each in RANGES.items()} == {
        "TRAINING": 0, "VALIDATION": 800_000, "DEMO": 900_000, "CALIBRATION": 910_000, "SPEED": 915_000,
        "HELD_OUT": 920_000, "HELD_OUT_OTHERS": 925_000, "DISTRACTORS": 10_000_000,
    }  # fmt: skip
    assert demo_objects.OBJECT_SEEDS == {"bottle": 900_014, "carton": 900_009, "toy": 900_013}


def test_more_objects_than_there_are_seeds_are_refused():
    assert list(seeds.take(seeds.SPEED, 3, 2)) == [915_003, 915_004]
    assert len(seeds.take(seeds.SPEED, 0, len(seeds.SPEED))) == len(seeds.SPEED)
    with pytest.raises(VPOGError, match=r"objects 4999 to 5000 .* there are 5000 .* ask for fewer"):
        seeds.take(seeds.SPEED, 4999, 2)


def _objects_made(path: Path) -> list[int]:
    """Return the seeds that a test file gives to `make_object` as numbers."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [
        call.args[0].value
        for call in calls
        if getattr(call.func, "id", "") == "make_object"
        and call.args
        and isinstance(call.args[0], ast.Constant)
    ]


def test_no_test_makes_an_object_that_is_evaluated_on():
    made = {seed for path in TESTS.rglob("*.py") for seed in _objects_made(path)}
    assert len(made) > 10
    evaluated = (seeds.VALIDATION, seeds.CALIBRATION, seeds.SPEED, seeds.HELD_OUT, seeds.HELD_OUT_OTHERS)
    assert not [seed for seed in made if any(seed in each for each in evaluated)]
