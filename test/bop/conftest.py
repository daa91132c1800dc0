from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def shard_root(tiny_bop, tmp_path) -> Path:
    """Return two shards and a list of models."""
    root = tmp_path / "MegaPose-GSO"
    tiny_bop.write_shard(root / "shard-000000.tar", (0, 3))
    tiny_bop.write_shard(root / "shard-000001.tar", (5,))
    models = [{"obj_id": 1, "gso_id": "Bowl"}, {"obj_id": 4, "gso_id": "Fruit"}]
    (root / "gso_models.json").write_text(json.dumps(models))
    return root
