"""Save and load weights as safetensors, with the network's configuration in their metadata."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from vpog_core.models.config import VPOGConfig
from vpog_core.models.refiner import RefinerNet
from vpog_core.models.refiner_config import RefinerConfig
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.models.weights_path import check_weights_file
from vpog_core.types import VPOGError
from vpog_core.utils.atomic_file import atomic_write
from vpog_core.utils.fingerprint import SHORT, digest

FORMAT = "1"
"""Version of weights files; increase it when older programs cannot read them any more."""
COARSE, REFINER = "coarse", "refiner"
NETWORKS = {COARSE: (VPOGModel, VPOGConfig), REFINER: (RefinerNet, RefinerConfig)}
"""Network and configuration classes of each kind of weights file."""


def save_weights(
    model: VPOGModel | RefinerNet, path: str | Path, extra: dict[str, str] | None = None
) -> None:
    """Write a network's weights; the file is whole or not there."""
    kind = REFINER if isinstance(model, RefinerNet) else COARSE
    metadata = {
        "format": FORMAT, "network": kind, "config": json.dumps(model.config.to_dict()), **(extra or {}),
    }  # fmt: skip
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    atomic_write(
        Path(path), save(tensors, metadata=metadata)
    )  # save_file would make the file unreadable for other users


def copy_weights(
    path: str | Path, output: str | Path, extra: dict[str, str], dtype: torch.dtype | None = None
) -> None:
    """Write a weights file again with further metadata, its tensors as they are or of another `dtype`.

    Raises:
        VPOGError: it cannot be read, or numbers in it are too large for the `dtype`.
    """
    metadata, tensors = _read(Path(path))
    if dtype is not None:
        tensors = {k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()}
        for key, tensor in tensors.items():
            if not tensor.isfinite().all():
                raise VPOGError(f"In '{path}' the tensor '{key}' does not fit {dtype}: keep it as it is.")
    atomic_write(Path(output), save(tensors, metadata={**metadata, **extra}))


def load_weights(
    path: str | Path, device: str | torch.device = "cpu", expect: VPOGConfig | None = None
) -> VPOGModel:
    """Load the model of a weights file, in evaluation mode.

    Args:
        expect: refuse a network of other numbers than these (`PRESETS["vpog-base"]`, say).

    Raises:
        VPOGError: no such file, not VPOG weights, of another version or preset, or tensors that do not
            fit (the first key is named).
    """
    return _load(Path(path), COARSE, device, expect)


def load_refiner(
    path: str | Path, device: str | torch.device = "cpu", expect: RefinerConfig | None = None
) -> RefinerNet:
    """Return the refiner of a weights file, in evaluation mode; arguments and errors as of `load_weights`."""
    return _load(Path(path), REFINER, device, expect)


def _load(path: Path, kind: str, device: str | torch.device, expect: VPOGConfig | RefinerConfig | None):
    metadata, tensors = _read(path)
    found = metadata.get("network", COARSE)
    if found != kind:
        raise VPOGError(f"'{path}' holds a {found} network where a {kind} one is needed: give its weights.")
    network, numbers = NETWORKS[kind]
    config = _read_config(path, metadata, numbers)
    if expect is not None:
        check_config(path, config, expect)
    _check_size(path, config, tensors)
    model = network(config)
    check_fit(path, model.state_dict(), tensors)
    model.load_state_dict(tensors)
    return model.to(device).eval().requires_grad_(False)


def _check_size(path: Path, config: VPOGConfig | RefinerConfig, tensors: dict[str, torch.Tensor]) -> None:
    """Refuse a configuration of a larger network than the file holds, before memory is taken for it.

    A network on the meta device would need no memory, but importing torch's compiler for it takes a second.
    """
    held = sum(tensor.numel() for tensor in tensors.values())
    if config.least_parameters > held:
        raise VPOGError(
            f"The configuration in '{path}' is of a network of {config.least_parameters} numbers or more, "
            f"and the file holds {held}: copy or export the weights again."
        )


def check_fit(
    path: Path,
    expected: dict[str, torch.Tensor],
    found: dict[str, torch.Tensor],
    remedy: str = "use weights of this version and preset",
) -> None:
    """Refuse tensors that are not just those expected, by the first key that does not fit."""
    for key, tensor in expected.items():
        if key not in found:
            raise VPOGError(f"'{path}' lacks the tensor '{key}': {remedy}.")
        if found[key].shape != tensor.shape:
            raise VPOGError(
                f"In '{path}' the tensor '{key}' has the shape {tuple(found[key].shape)} "
                f"where {tuple(tensor.shape)} is needed: {remedy}."
            )
        if not (found[key].is_floating_point() and found[key].isfinite().all()):
            raise VPOGError(
                f"In '{path}' the tensor '{key}' holds values that are no finite numbers: "
                "use weights saved before the training went astray."
            )
    for key in found:
        if key not in expected:
            raise VPOGError(f"'{path}' holds the unknown tensor '{key}': {remedy}.")


def weights_key(path: str | Path) -> str:
    """Compute a short hash of a weights file's network, by which cached tokens are valid.

    Of the metadata only the configuration counts, so that a new calibration keeps the cache.
    """
    with safe_open(path, framework="pt") as file:
        config = (file.metadata() or {}).get("config", "")
    content = Path(path).read_bytes()
    tensors = content[8 + int.from_bytes(content[:8], "little") :]  # after safetensors' header
    return digest([config, tensors])[:SHORT]


def _read(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Read metadata and tensors of a file."""
    check_weights_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise VPOGError(
            f"'{path}' is no readable safetensors file ({error}): copy or export the weights again."
        ) from error


def _read_config(path: Path, metadata: dict[str, str], numbers: type) -> VPOGConfig | RefinerConfig:
    if "config" not in metadata:
        raise VPOGError(f"'{path}' holds no VPOG configuration: use weights written by vpog's training.")
    if metadata.get("format", FORMAT) != FORMAT:
        raise VPOGError(
            f"'{path}' has the format '{metadata['format']}' and this version reads '{FORMAT}': "
            "update vpog, or use weights of this version."
        )
    try:
        values = json.loads(metadata["config"])
    except json.JSONDecodeError as error:
        raise VPOGError(
            f"The configuration in '{path}' is no valid JSON ({error}): export the weights again."
        ) from error
    if not isinstance(values, dict):
        raise VPOGError(f"The configuration in '{path}' is no mapping: export the weights again.")
    try:
        return numbers.from_dict(values)
    except VPOGError as error:
        raise VPOGError(f"In the configuration of '{path}': {error}") from error


def check_config(path: Path, config: VPOGConfig | RefinerConfig, expect: VPOGConfig | RefinerConfig) -> None:
    """Refuse another network; what is frozen in training makes no other."""
    for name, value in config.to_dict().items():
        if name != "freeze_encoder" and value != getattr(expect, name):
            raise VPOGError(
                f"'{path}' is a network of {name} {value} where {getattr(expect, name)} is asked for: "
                "use weights of this preset, or the preset of these weights."
            )
