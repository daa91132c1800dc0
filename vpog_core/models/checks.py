"""Check the network's inputs, and report what is wrong in one sentence.

Shapes, types and devices are always checked; values only where this does not stall the device: never of
uint8 images (nothing wrong can be in them), nor while a graph is compiled or exported.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vpog_core.models.config import PATCH, VPOGConfig
from vpog_core.models.stem import STRIDE
from vpog_core.types import VPOGError

LOWEST, HIGHEST = -1.0, 2.0
"""Values of images in 0..1 lie within these even where resampling overshoots; those of images in 0..255,
or normalised before, do not."""


def network_images(images: Tensor, size: int, like: Tensor) -> Tensor:
    """Convert images [N, 3, H, W] to what the network takes: in 0..1, of the dtype of `like`.

    Args:
        images: RGB, uint8 in 0..255 or floating point in 0..1.
        size: pixels along a side; like: any buffer of the network.

    Raises:
        VPOGError: not such images, of another size, on another device, with values out of range or NaN.
    """
    if not isinstance(images, Tensor):
        raise VPOGError(f"The images are a {type(images).__name__}: give a tensor [N, 3, {size}, {size}].")
    _check_image_shape(tuple(images.shape), size)
    _check_device("images", images, like)
    if images.dtype == torch.uint8:
        return images.to(like.dtype) / 255.0
    if not images.is_floating_point():
        raise VPOGError(f"The images are {images.dtype}: give uint8 in 0..255 or floating point in 0..1.")
    if _values_can_be_read(images):
        _check_image_values(images)
    return images.to(like.dtype)


def check_pair(
    query: tuple[Tensor, Tensor], templates: tuple[Tensor, Tensor], config: VPOGConfig, stem_channels: int
) -> None:
    """Refuse encodings that do not belong together.

    Args:
        query: tokens [B, Nq, D], stem [B, C, h, w]; templates: tokens [B, S, Nt, D], stem [B, S, C, h, w].
    """
    cells = config.image_size // STRIDE
    tokens = {"N": config.num_patches, "D": config.embed_dim}
    stem = {"C": stem_channels, "H/4": cells, "W/4": cells}
    remedy = "encode both with this network"
    _check_shape("query.tokens", query[0], {"B": None, **tokens}, remedy)
    batch = query[0].shape[0]
    _check_shape("templates.tokens", templates[0], {"B": batch, "S": None, **tokens}, remedy)
    count = templates[0].shape[1]
    _check_shape("query.stem", query[1], {"B": batch, **stem}, remedy)
    _check_shape("templates.stem", templates[1], {"B": batch, "S": count, **stem}, remedy)
    _check_device("templates", templates[0], query[0])
    if batch == 0 or count == 0:
        raise VPOGError(f"There are {batch} crops and {count} templates to match: give one of each at least.")


def check_directions(directions: Tensor, tokens: Tensor) -> None:
    """Refuse viewing directions that are not [B, S, 3] for templates' tokens [B, S, Nt, D]."""
    batch, count = tokens.shape[:2]
    _check_shape("directions", directions, {"B": batch, "S": count, "xyz": 3}, "give one for each template")
    _check_device("directions", directions, tokens)
    if not directions.is_floating_point():
        raise VPOGError(f"The directions are {directions.dtype}: give floating point unit vectors.")


def check_index(index: Tensor, tokens: Tensor) -> None:
    """Refuse what names no template patch [B, S, Nq] of templates' tokens [B, S, Nt, D]."""
    batch, count, patches = tokens.shape[:3]
    shape = {"B": batch, "S": count, "N": patches}
    _check_shape("index", index, shape, "give a template patch for each query patch")
    _check_integers("index", index, (patches,))


def check_pairs(pairs: Tensor, tokens: Tensor) -> None:
    """Refuse pairs [P, 4] that do not lie in templates' tokens [B, S, Nt, D] and queries' [B, Nq, D]."""
    batch, count, patches = tokens.shape[:3]
    _check_shape("pairs", pairs, {"P": None, "4": 4}, "give batch, template, query patch, template patch")
    _check_integers("pairs", pairs, (batch, count, patches, patches))


def check_comparison(
    image: Tensor, render: Tensor, normals: Tensor, mask: Tensor, size: int, like: Tensor
) -> None:
    """Refuse what a refiner of side `size` does not compare; `like`: any buffer of the network."""
    given = {"image": image, "render": render, "normals": normals, "mask": mask}
    for name, tensor in given.items():
        shape = {"B": image.shape[0] if image.ndim else None, "3": 3, "H": size, "W": size}
        if name == "mask":
            del shape["3"]
        _check_shape(name, tensor, shape, "give image, render, normals and mask of one frame for each pair")
        _check_device(name, tensor, like)
    for name in ("image", "render"):
        if given[name].dtype != torch.uint8:
            raise VPOGError(f"The {name} is {given[name].dtype}: give RGB in 0..255 as uint8.")
    if not normals.is_floating_point() or mask.dtype != torch.bool:
        raise VPOGError(
            f"The normals are {normals.dtype} and the mask {mask.dtype}: give floating point and bool."
        )


def _check_image_shape(shape: tuple[int, ...], size: int) -> None:
    if len(shape) != 4 or shape[1] != 3 or shape[0] == 0:
        raise VPOGError(f"The images have the shape {shape}: give RGB images [N, 3, {size}, {size}].")
    height, width = shape[2:]
    if height % PATCH or width % PATCH:
        raise VPOGError(
            f"Images of {width}x{height} pixels do not split into {PATCH}x{PATCH} patches: "
            f"resize them to {size}x{size}."
        )
    if (height, width) != (size, size):
        raise VPOGError(
            f"Images of {width}x{height} pixels do not fit a network of image_size {size}: "
            f"resize them to {size}x{size}."
        )


def _check_image_values(images: Tensor) -> None:
    low, high = (float(v) for v in images.detach().aminmax())
    if low >= LOWEST and high <= HIGHEST:
        return
    for n, image in enumerate(images.detach()):
        if not image.isfinite().all():
            raise VPOGError(f"Image {n} holds NaN or infinite values: replace them before encoding.")
    raise VPOGError(
        f"The images hold values from {low:.4g} to {high:.4g}: give RGB in 0..1, not normalised, or uint8."
    )


def _check_shape(name: str, tensor: Tensor, dims: dict[str, int | None], remedy: str) -> None:
    shape = tuple(tensor.shape)
    if len(shape) == len(dims) and all(
        want in (None, have) for want, have in zip(dims.values(), shape, strict=True)
    ):
        return
    wanted = ", ".join(
        k if v is None or k.isdigit() else str(v) if k == "xyz" else f"{k}={v}" for k, v in dims.items()
    )
    raise VPOGError(f"{name} has the shape {shape} where [{wanted}] is needed: {remedy}.")


def _check_device(name: str, tensor: Tensor, like: Tensor) -> None:
    if tensor.device != like.device:
        raise VPOGError(
            f"The {name} are on {tensor.device}, the network's other tensors on {like.device}: "
            f"move them with .to('{like.device}')."
        )


def _check_integers(name: str, values: Tensor, limits: tuple[int, ...]) -> None:
    """Check that values are integers below the limits of the last axis (or of all); values on a CPU only."""
    if values.is_floating_point() or values.dtype == torch.bool:
        raise VPOGError(f"{name} is {values.dtype}: give integers (torch.long).")
    if values.device.type != "cpu" or not _values_can_be_read(values) or values.numel() == 0:
        return
    columns = values.reshape(-1, len(limits))
    low, high = columns.amin(dim=0).tolist(), columns.amax(dim=0).tolist()
    for first, last, limit in zip(low, high, limits, strict=True):
        if first < 0 or last >= limit:
            raise VPOGError(
                f"{name} holds {first if first < 0 else last} where 0..{limit - 1} is possible: "
                "leave out patches that are unseen."
            )


def _values_can_be_read(tensor: Tensor) -> bool:
    return not (tensor.is_meta or torch.compiler.is_compiling())
