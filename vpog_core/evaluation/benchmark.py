"""Define a benchmark: frames with true poses, and the objects in them.

`bop_benchmark.BopBenchmark` (a dataset on disk) and `heldout.HeldOut` (made up, by seed) are benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from vpog_core.evaluation.vsd import DELTA
from vpog_core.geometry.symmetry import BOP_STEP, Symmetry
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.types import Camera

FrameKey = tuple[int, int]
"""(scene_id, image_id)."""


@dataclass
class BenchmarkObject:
    """Holds one object as its poses are evaluated; metres.

    Attributes:
        obj_id: its number in results files; name: for people; library_id: its name in the object library.
        diameter: what errors are divided by.
    """

    obj_id: int
    name: str
    library_id: str
    mesh: Mesh
    diameter: float
    symmetry: Symmetry

    @property
    def points(self) -> np.ndarray:
        """All vertices [V, 3]."""
        return self.mesh.vertices

    @cached_property
    def hull(self) -> np.ndarray:
        """[N, 3] vertices of the convex hull: the distance two rigid motions put between a point's images is
        a convex function of the point, so its maximum lies here."""
        try:
            return self.points[ConvexHull(self.points).vertices]
        except (QhullError, ValueError):
            return self.points

    @cached_property
    def symmetries(self) -> np.ndarray:
        """The symmetries [S, 4, 4], continuous ones in BOP's steps."""
        return self.symmetry.transforms(BOP_STEP)

    @cached_property
    def renderer(self) -> Renderer:
        """The renderer of the mesh."""
        return Renderer(self.mesh)


@dataclass
class Truth:
    """Holds the true pose of one object in one frame.

    Attributes:
        T_cam_obj: [4, 4] metres.
        visible_fraction: 0..1, NaN where not known.
        box: [4] (x0, y0, x1, y1) around what is visible, pixels, or None where nothing is.
        read_mask: gives the visible pixels [H, W] bool, or None.
    """

    obj_id: int
    T_cam_obj: np.ndarray
    visible_fraction: float
    box: np.ndarray | None
    read_mask: Callable[[], np.ndarray | None] = field(default=lambda: None, repr=False)


@dataclass
class BenchmarkFrame:
    """Holds one image with its ground truth; image files are read on first use.

    Attributes:
        truths: all annotated objects; targets: number of instances to find of each object.
        vsd_delta: see `vsd.DELTA`.
    """

    key: FrameKey
    camera: Camera
    truths: list[Truth]
    targets: dict[int, int]
    read_image: Callable[[], np.ndarray] = field(repr=False)
    read_depth: Callable[[], np.ndarray | None] = field(repr=False)
    vsd_delta: float = DELTA

    @cached_property
    def image(self) -> np.ndarray:
        """The image [H, W, 3] uint8 RGB."""
        return self.read_image()

    @cached_property
    def depth(self) -> np.ndarray | None:
        """The depth [H, W] float32 metres, 0 where nothing was measured; None without a depth camera."""
        return self.read_depth()


class Benchmark(Protocol):
    """Provides frames and objects, and writes the objects as a library for an estimator."""

    name: str
    """Name of the benchmark, shown in reports."""
    fingerprint: str
    """Digest of everything that could change a frame's poses or their errors."""
    has_depth: bool
    groups: dict[int, str]
    """Label of each scene, if scenes are kinds of images; else empty."""
    splits: dict[int, str]
    """Split of each scene, if the benchmark has splits; else empty."""
    notes: list[str]
    """Sentences on deviations from the format and how they are handled."""
    known_objects: frozenset[int]
    """All objects with a model, including those without targets."""
    known_keys: frozenset[FrameKey]
    """All frames with targets; `keys` may be a subset."""

    @property
    def keys(self) -> list[FrameKey]:
        """The frames with targets, in order."""
        ...

    @property
    def object_ids(self) -> list[int]:
        """The objects with targets."""
        ...

    def frame(self, key: FrameKey) -> BenchmarkFrame: ...

    def object(self, obj_id: int) -> BenchmarkObject: ...

    def library_id(self, obj_id: int) -> str:
        """Return the object's name in the library."""
        ...

    def write_library(self, folder: Path) -> None:
        """Fill an empty folder with meshes and an objects.yaml."""
        ...
