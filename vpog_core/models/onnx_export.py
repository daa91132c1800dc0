"""Write the networks as ONNX files of fixed shapes, and check them against torch in onnxruntime."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vpog_core.models.cost import TEMPLATE_TURNS, VIEWS
from vpog_core.models.export import Compare, Encode, Match, MatchedFlow, example_inputs, example_pairs
from vpog_core.models.refiner import IMAGE_MEAN, IMAGE_STD, RefinerNet
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.types import VPOGError
from vpog_core.utils.atomic_file import atomic_write

FORMAT = 3
"""Version of the exported folder; increase it when files, names or shapes change."""
MANIFEST = "manifest.json"
EXPORTING_TORCH = (2, 6)
"""First version of torch whose exporter supports these networks."""
DESCRIBED_VIEWS = VIEWS * TEMPLATE_TURNS
"""Number of descriptors of an object: one for each view and turn."""
TOLERANCE = 1e-4
"""Tolerance relative to the largest value of an output; the order of float32 sums changes some 1e-6 of it."""
AGREE = 0.99
"""Fraction of an output's values that must be within the tolerance: a window that is chosen by rounding may
fall to its neighbour for a cell."""
PREPROCESSING = {
    "images": "RGB, uint8, rows from the top: the image seen by a camera that looks at the middle of the "
    "detection, its side 1.05 times the diagonal of the box; normalised inside of the graph",
    "mean": IMAGE_MEAN,
    "std": IMAGE_STD,
    "directions": "unit vectors from the object to each template's camera, in the camera frame of the first "
    "template (x right, y down, z forward)",
    "index": "the likeliest template patch of each crop patch: argmax of logits without the last column, "
    "which means unseen",
    "render, normals, mask": "the object rendered at its pose by the camera of image; normals unit, in the "
    "camera frame, zero in the background",
}


class Retrieve(nn.Module):
    """Compares descriptors of crops [B, C] with an object's templates [T, C] -> logits [B, T]."""

    def __init__(self, model: VPOGModel) -> None:
        super().__init__()
        self.head = model.retrieval_head

    def forward(self, queries: Tensor, templates: Tensor) -> Tensor:
        return self.head.logits(queries, templates)


@dataclass(frozen=True)
class Graph:
    """Holds a network to export: its module, inputs of the fixed shapes, names of inputs and outputs."""

    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def graphs_of(model: VPOGModel, refiner: RefinerNet | None, crops: int, templates: int) -> dict[str, Graph]:
    """Collect the graphs of the networks by their file's name, with inputs that hold random numbers."""
    examples = example_inputs(model, crops, templates)
    size = model.config.image_size
    images = torch.zeros(crops, 3, size, size, dtype=torch.uint8)
    features = () if model.backbone is None else ("backbone",)
    descriptors = model.config.num_patches * model.config.retrieval_dim
    retrieved = torch.zeros(crops, descriptors), torch.zeros(DESCRIBED_VIEWS, descriptors)
    matched = ("query", "templates", "query_fine", "template_fine")
    found = {
        "encode": Graph(
            Encode(model),
            (images,),
            ("images",),
            ("tokens", "stem", *features, "descriptors", "template_descriptors"),
        ),
        "retrieve": Graph(Retrieve(model), retrieved, ("descriptors", "template_descriptors"), ("logits",)),
        "match": Graph(
            Match(model),
            examples["Match"],
            ("tokens", "stem", "template_tokens", "template_stem", "directions"),
            ("logits", *matched),
        ),
        "flow": Graph(
            MatchedFlow(model), examples["MatchedFlow"], (*matched, "index"), ("flow", "confidence")
        ),
    }
    if refiner is not None:
        found["refiner"] = Graph(
            Compare(refiner),
            example_pairs(refiner, crops),
            ("image", "render", "normals", "mask"),
            ("flow", "log_scale", "visibility", "score"),
        )
    return {name: _with_random_inputs(graph, model.config.num_patches) for name, graph in found.items()}


def export_onnx(
    model: VPOGModel,
    refiner: RefinerNet | None,
    folder: Path,
    made_of: dict[str, str],
    crops: int = 1,
    templates: int = 4,
    progress: Callable[[str], None] = lambda name: None,
) -> dict:
    """Write one ONNX file for each network and a manifest, which comes last: a folder with one is whole.

    Args:
        model, refiner: on the CPU; refiner None: not written.
        made_of: fingerprints of the weights, for the manifest.
        crops: B, crops and pairs at once; templates: S of each crop.
        progress: called with the name of each network before it is written.

    Returns:
        what the manifest holds.

    Raises:
        VPOGError: onnx or onnxruntime is not installed, or what is written computes something else.
        OSError: the folder cannot be written.
    """
    require("onnx", "onnxscript", "onnxruntime")
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < EXPORTING_TORCH:
        needed = ".".join(map(str, EXPORTING_TORCH))
        raise VPOGError(f"torch {torch.__version__} cannot export these networks: install {needed} or newer.")
    networks = {}
    for name, graph in graphs_of(model, refiner, crops, templates).items():
        progress(name)
        path = folder / f"{name}.onnx"
        atomic_write(path, _as_onnx(graph))
        networks[name] = {"file": path.name, **_checked(path, graph)}
    manifest = {
        "format": FORMAT, "made_of": made_of, "crops": crops,
        "templates": templates, "networks": networks, "preprocessing": PREPROCESSING,
    }  # fmt: skip
    atomic_write(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    return manifest


def require(*modules: str) -> None:
    """Refuse to go on without modules of the extra `onnx`.

    Raises:
        VPOGError: one is missing.
    """
    for module in modules:
        if find_spec(module) is None:
            raise VPOGError(
                f"The Python package '{module}' is not installed: pip install onnx onnxruntime onnxscript."
            )


def open_session(path: Path, threads: int = 1):
    """Open a file in onnxruntime, on the CPU; its threads sleep while they wait.

    Raises:
        VPOGError: onnxruntime is missing, or cannot read the file.
    """
    require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a different exception for each kind of damage
        raise VPOGError(
            f"'{path}' cannot be opened in onnxruntime ({str(error)[:100]}): export it again."
        ) from error


def _with_random_inputs(graph: Graph, patches: int) -> Graph:
    """Replace a graph's inputs by random ones of the same shapes and types, which reveal errors."""
    generator = torch.Generator().manual_seed(0)

    def random(like: Tensor) -> Tensor:
        if like.is_floating_point():
            return torch.rand(like.shape, generator=generator) - 0.5
        most = {torch.uint8: 256, torch.bool: 2}.get(like.dtype, patches)
        return torch.randint(0, most, like.shape, generator=generator).to(like.dtype)

    return Graph(graph.module.eval(), tuple(random(v) for v in graph.example), graph.inputs, graph.outputs)


def _as_onnx(graph: Graph) -> bytes:
    """Export a graph; returns the content of its file."""
    with torch.no_grad(), _quiet("torch.onnx"):
        program = torch.onnx.export(
            graph.module,
            graph.example,
            dynamo=True,
            verbose=False,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
        )
    return program.model_proto.SerializeToString()


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Suppress warnings of a logger and of Python, such as those on packages that are not needed."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _checked(path: Path, graph: Graph) -> dict:
    """Compare a file with torch; returns its inputs and outputs for the manifest.

    Raises:
        VPOGError: they compute different things.
    """
    session = open_session(path)
    found = session.run(
        list(graph.outputs), dict(zip(graph.inputs, (v.numpy() for v in graph.example), strict=True))
    )
    with torch.no_grad():
        expected = graph.module(*graph.example)
    outputs = []
    expected = (expected,) if isinstance(expected, Tensor) else expected
    for name, there, here in zip(graph.outputs, found, expected, strict=True):
        difference = np.abs(there - here.numpy()) / max(float(here.abs().max()), 1e-6)
        if not np.quantile(difference, AGREE) <= TOLERANCE:  # NaN, too
            raise VPOGError(
                f"'{path}' computes another '{name}' than torch (off by {np.nanmax(difference):.2g} of the "
                "largest value): use other versions of onnx and onnxruntime."
            )
        outputs.append({**_described(name, here), "largest_difference": float(difference.max())})
    inputs = [_described(name, value) for name, value in zip(graph.inputs, graph.example, strict=True)]
    return {"inputs": inputs, "outputs": outputs}


def _described(name: str, value: Tensor) -> dict:
    return {"name": name, "shape": list(value.shape), "type": str(value.dtype).removeprefix("torch.")}
