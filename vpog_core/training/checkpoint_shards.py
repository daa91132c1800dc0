"""Split a run into small files (shards), to carry it from one machine to the next.

`pack` writes what `checkpoint.ckpt` holds into files of at most 16 MiB, as much of it as a budget allows:

    exact    16 bytes a weight: all of it, the run continues to the last bit
    half     10 bytes: averaged weights and AdamW's moments in bfloat16, current weights whole
    weights   2 bytes: averaged weights in float16, from which the current ones begin; first moments begin
             at zero, second ones as their rank-one part (Shazeer and Stern 2018, Adafactor)

`unpack` makes the run's folder from them again: checkpoint, weights, history and configuration.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import torch
import yaml
from torch import Tensor

from vpog_core.models.checkpoint import COARSE, save_weights
from vpog_core.models.config import VPOGConfig
from vpog_core.models.refiner import RefinerNet
from vpog_core.models.refiner_config import RefinerConfig
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.training.callbacks import (
    CHECKPOINT,
    HISTORY,
    WEIGHTS,
    SafeCheckpointIO,
    read_checkpoint,
)
from vpog_core.types import VPOGError
from vpog_core.utils.atomic_file import atomic_write
from vpog_core.utils.fingerprint import digest

MIB = 2**20
SHARD_BYTES = 16 * MIB
BUDGET = 60 * MIB
OVERHEAD = 512
"""Bytes that a file needs for each tensor in addition to its values."""
MANIFEST = "state.json"
FIDELITIES = ("exact", "half", "weights")
MOMENTS = ("exp_avg", "exp_avg_sq")


def pack(run: str | Path, shards: str | Path, budget: int = BUDGET) -> str:
    """Write a run's state into `shards`; returns the fidelity it has there.

    Raises:
        VPOGError: no run there, or even its weights do not fit.
    """
    run, shards = Path(run), Path(shards)
    if not (run / CHECKPOINT).is_file():
        raise VPOGError(f"There is no {CHECKPOINT} in '{run}': give the output folder of a run.")
    # Choose the highest fidelity that fits.
    checkpoint = read_checkpoint(run / CHECKPOINT)
    config = yaml.safe_load((run / "config.yaml").read_text())
    fidelity = _best_fidelity(checkpoint, budget)
    if fidelity is None:
        raise VPOGError(
            f"The weights of '{run}' alone take more than {budget / MIB:.0f} MiB: give a larger budget."
        )
    # Write the state in pieces, in place of earlier ones.
    content = _bytes(reduced(checkpoint, fidelity))
    shards.mkdir(parents=True, exist_ok=True)
    for old in shards.glob("state.*.bin"):
        old.unlink()
    listed = []
    for n, start in enumerate(range(0, len(content), SHARD_BYTES)):
        part, name = content[start : start + SHARD_BYTES], f"state.{n:03d}.bin"
        (shards / name).write_bytes(part)
        listed.append({"name": name, "sha256": digest([part])})
    # Write the list of pieces last: with it the shards are complete.
    manifest = {"fidelity": fidelity, "pieces": listed, "config": config}
    atomic_write(shards / MANIFEST, json.dumps(manifest, indent=1))
    return fidelity


def unpack(shards: str | Path, run: str | Path) -> str:
    """Make a run's folder from its shards; returns their fidelity.

    Raises:
        VPOGError: a shard is missing or damaged.
    """
    shards, run = Path(shards), Path(run)
    # Read the pieces.
    manifest = _manifest(shards)
    content = b"".join(_read_shard(shards, entry) for entry in manifest["pieces"])
    checkpoint = restored(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    # Write configuration and history.
    run.mkdir(parents=True, exist_ok=True)
    atomic_write(run / "config.yaml", yaml.safe_dump(manifest["config"], sort_keys=False))
    history = checkpoint["callbacks"]["RunFiles"]["history"]
    atomic_write(run / HISTORY, json.dumps(history, indent=1))
    # Write weights and checkpoint.
    network = _network(manifest["config"])
    network.load_state_dict(_with_prefix_removed(checkpoint["state_dict"], "averaged."))
    save_weights(network, run / WEIGHTS, {"steps": str(checkpoint["global_step"])})
    SafeCheckpointIO().save_checkpoint(checkpoint, run / CHECKPOINT)
    return manifest["fidelity"]


def _network(config: dict) -> VPOGModel | RefinerNet:
    """Make the network of a run's configuration."""
    if config.get("network", COARSE) == COARSE:
        return VPOGModel(VPOGConfig.from_dict(config["model"]))
    return RefinerNet(RefinerConfig.from_dict(config["refiner"]))


def _best_fidelity(checkpoint: dict, budget: int) -> str | None:
    """Return the first fidelity whose tensors, with what is written around each, fit a budget of bytes."""
    for fidelity in FIDELITIES:
        tensors = list(_tensors(reduced(checkpoint, fidelity)))
        if sum(t.nbytes for t in tensors) + OVERHEAD * (len(tensors) + 100) <= budget:
            return fidelity
    return None


def _tensors(value) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)


def reduced(checkpoint: dict, fidelity: str) -> dict:
    """Return the part of a checkpoint that a fidelity keeps."""
    if fidelity == "exact":
        return checkpoint
    tensors, optimizer = checkpoint["state_dict"], checkpoint["optimizer_states"][0]
    if fidelity == "half":
        kept = {k: v.bfloat16() if k.startswith("averaged.") else v for k, v in tensors.items()}
        state = {i: _map_moments(s, lambda v: v.bfloat16()) for i, s in optimizer["state"].items()}
    else:
        kept = {k: v.half() for k, v in tensors.items() if k.startswith("averaged.")}
        state = {i: _rank_one(s) for i, s in optimizer["state"].items()}
    return {**checkpoint, "state_dict": kept, "optimizer_states": [{**optimizer, "state": state}]}


def restored(checkpoint: dict) -> dict:
    """Restore a whole checkpoint in float32 from a reduced one."""
    averaged = {k: v.float() for k, v in checkpoint["state_dict"].items() if k.startswith("averaged.")}
    current = {k.replace("averaged.", "network.", 1): v.clone() for k, v in averaged.items()}
    current.update({k: v for k, v in checkpoint["state_dict"].items() if k.startswith("network.")})
    optimizer = checkpoint["optimizer_states"][0]
    state = {i: _full_moments(s) for i, s in optimizer["state"].items()}
    return {
        **checkpoint, "state_dict": {**current, **averaged},
        "optimizer_states": [{**optimizer, "state": state}],
    }  # fmt: skip


def _map_moments(state: dict, change) -> dict:
    return {**state, **{name: change(state[name]) for name in MOMENTS}}


def _rank_one(state: dict) -> dict:
    """Reduce a second moment [m, ...] to the means of its rows and columns; vectors stay."""
    moment = state["exp_avg_sq"]
    if moment.ndim <= 1 or not moment.numel():
        return {"step": state["step"], "exp_avg_sq": moment}
    matrix = moment.flatten(1)
    shape = list(moment.shape)
    return {"step": state["step"], "rows": matrix.mean(dim=1), "columns": matrix.mean(dim=0), "shape": shape}


def _full_moments(state: dict) -> dict:
    if "rows" in state:
        product = torch.outer(state["rows"], state["columns"]) / state["rows"].mean().clamp_min(1e-30)
        state = {"step": state["step"], "exp_avg_sq": product.view(state["shape"])}
    state.setdefault("exp_avg", torch.zeros_like(state["exp_avg_sq"]))
    return _map_moments(state, Tensor.float)


def _with_prefix_removed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _bytes(checkpoint: dict) -> bytes:
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()


def _manifest(shards: Path) -> dict:
    file = shards / MANIFEST
    if not file.is_file():
        raise VPOGError(
            f"There is no {MANIFEST} in '{shards}': give the folder that a slice wrote its pieces to."
        )
    try:
        manifest = json.loads(file.read_text())
        names = [entry["name"] for entry in manifest["pieces"]]
    except (ValueError, KeyError, TypeError) as error:
        raise VPOGError(f"'{file}' is damaged ({error}): copy it again.") from error
    if any(Path(name).name != name for name in names):
        raise VPOGError(f"'{file}' names files outside its folder: copy it again.")
    return manifest


def _read_shard(shards: Path, entry: dict) -> bytes:
    file = shards / entry["name"]
    if not file.is_file():
        raise VPOGError(f"The piece '{file}' is missing: copy all pieces of the slice.")
    content = file.read_bytes()
    if digest([content]) != entry["sha256"]:
        raise VPOGError(f"The piece '{file}' is damaged or of another slice: copy all pieces again.")
    return content
