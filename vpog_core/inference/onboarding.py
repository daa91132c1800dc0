"""Prepare an object for matching: templates, retrieval descriptors, encoded clusters."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
from torch import Tensor

from vpog_core import cancellation
from vpog_core.geometry.camera import roll_matrix
from vpog_core.geometry.se3 import rotation_z
from vpog_core.inference.correspondence import interpolated_on_surface
from vpog_core.models.precision import inference_context, uses_bfloat16
from vpog_core.models.vpog_model import Encoded, VPOGModel
from vpog_core.objects.template_set import TemplateSet
from vpog_core.objects.viewpoints import align_roll, nearest_viewpoints, viewpoint_directions

ROLLS = 12
"""In-plane turns of a template that a crop is compared with: 30 degrees apart, so 15 are left at most."""
TEMPLATE_TURNS = 6
"""Turns that each template is described at, evenly around."""
CROP_TURNS = 6
"""Turns, a roll apart, that each crop is described at: with the template's, three pairs cover every roll."""
VIEWS_PER_BATCH = 12
"""Views described in one pass of the network, each at all its turns."""
DESCRIPTOR_FORMAT = "3"
"""Increase it when `describe_templates` changes for the same weights: caches are then rebuilt."""
MAX_CACHED_CLUSTERS = 64
"""Encoded clusters cached per object; the same few recur."""
IMAGES_PER_BATCH = 64
"""Template images that go through the encoder in one pass."""
Kind = tuple[type, bool]
"""Class of a network, and whether it computes in bfloat16: networks of the same weights differ in these."""


@dataclass
class TemplateViews:
    """Holds S templates rotated in the image to the roll of a reference view.

    Attributes:
        rgb: [S, P, P, 3] uint8; coords: [S, P, P, 3] float32 metres, object frame, NaN in the background.
        directions: [S, 3] float32, towards the cameras, in the reference's camera frame.
    """

    rgb: np.ndarray
    coords: np.ndarray
    directions: np.ndarray


@dataclass
class Cluster(TemplateViews):
    """Holds S neighbouring views, the first of them the reference.

    Attributes:
        kept: a cache of their encodings [S, ...], which `encode_clusters` fills, by the kind of network:
            those of an estimator and its variants have the same weights, but may compute in another precision
            or by another engine. None: the views are matched once.
    """

    kept: dict[Kind, Encoded] | None = None


class OnboardedObject:
    """Holds the templates of one object and what a network made of them. Thread-safe.

    Args:
        templates: rendered views.
        model: the network; descriptors: [V * TEMPLATE_TURNS, C] from `describe_templates`, view-major.
    """

    def __init__(self, templates: TemplateSet, model: VPOGModel, descriptors: Tensor) -> None:
        self.templates, self.model, self.descriptors = templates, model, descriptors
        self._clusters: OrderedDict[tuple, Cluster] = OrderedDict()
        self._lock = threading.Lock()

    def clear_clusters(self) -> None:
        """Drop the cached clusters and their encodings."""
        with self._lock:
            self._clusters.clear()

    def cluster(self, view: int, roll_index: int, size: int) -> Cluster:
        """Return the `size` templates around a view, all rotated to the view at that roll."""
        return self.group(nearest_viewpoints(viewpoint_directions()[view], size), roll_index)

    def group(self, views: Sequence[int], roll_index: int) -> Cluster:
        """Return the templates of some views, all rotated to the first of them at a roll."""
        key = (*(int(v) for v in views), roll_index)
        with self._lock:
            if key not in self._clusters:
                rotated = self.aligned_to(self.rotation(key[0], roll_index), key[:-1])
                self._clusters[key] = Cluster(**vars(rotated), kept={})
                if len(self._clusters) > MAX_CACHED_CLUSTERS:
                    self._clusters.popitem(last=False)
            self._clusters.move_to_end(key)
            return self._clusters[key]

    def nearest_cluster(self, R_virt_obj: np.ndarray, size: int) -> Cluster:
        """Return the `size` templates around the one, and the roll, nearest to a rotation [3, 3]."""
        view = int(nearest_viewpoints(-R_virt_obj[2])[0])
        roll = align_roll(self.templates.T_virt_obj[view][:3, :3], R_virt_obj)
        return self.cluster(view, round(roll / (2 * np.pi) * ROLLS) % ROLLS, size)

    @cached_property
    def rotations(self) -> np.ndarray:
        """The rotations R_virt_obj [V, ROLLS, 3, 3] of all templates at all rolls."""
        rolls = np.stack([rotation_z(roll_angle(roll_index)) for roll_index in range(ROLLS)])
        return rolls @ self.templates.T_virt_obj[:, None, :3, :3]

    def rotation(self, view: int, roll_index: int) -> np.ndarray:
        """Return R_virt_obj [3, 3] of a template at a roll."""
        return self.rotations[view, roll_index]

    def neighbours(self, direction: np.ndarray, R_ref: np.ndarray, count: int) -> TemplateViews:
        """Return the `count` templates nearest to a direction [3], rotated to a reference R_ref [3, 3]."""
        return self.aligned_to(R_ref, nearest_viewpoints(direction, count))

    def aligned_to(self, R_ref: np.ndarray, views: Sequence[int]) -> TemplateViews:
        """Return templates, each at the roll that brings it nearest to a reference view R_ref [3, 3]."""
        t, views = self.templates, list(views)
        rolls = [align_roll(t.T_virt_obj[v][:3, :3], R_ref) for v in views]
        return TemplateViews(
            rgb=np.stack([rotate_image(t.images[v], r) for v, r in zip(views, rolls, strict=True)]),
            coords=np.stack([self._coords(v, r) for v, r in zip(views, rolls, strict=True)]),
            directions=(viewpoint_directions()[views] @ R_ref.T).astype(np.float32),
        )

    def _coords(self, view: int, roll: float) -> np.ndarray:
        """Return the object coordinates [P, P, 3] of a template at a roll, NaN in the background."""
        t = self.templates
        coords = t.coords[view].astype(np.float32) + t.center.astype(np.float32)
        coords[~t.mask[view]] = np.nan
        smooth, nearest = (
            rotate_image(coords, roll, interpolation, np.nan)
            for interpolation in (cv2.INTER_LINEAR, cv2.INTER_NEAREST)
        )
        return interpolated_on_surface(smooth, nearest, t.diameter / t.size)


def roll_angle(roll_index: int) -> float:
    """Return the angle in radians of one of the ROLLS rolls."""
    return 2 * np.pi * roll_index / ROLLS


def rotate_image(
    image: np.ndarray, roll: float, interpolation: int = cv2.INTER_LINEAR, border: float = 0.0
) -> np.ndarray:
    """Rotate a square image [P, P, C] about its middle by `roll` radians, from x towards y."""
    size = image.shape[0]
    return cv2.warpAffine(
        image, roll_matrix(roll, size), (size, size), flags=interpolation, borderValue=(border,) * 3
    )


def encode_images(model: VPOGModel, rgb: np.ndarray) -> Encoded:
    """Encode images [N, P, P, 3] uint8 to tokens and stem features."""
    images = torch.from_numpy(rgb).to(model.mean.device).permute(0, 3, 1, 2)
    with torch.inference_mode(), inference_context(model):
        return model.encode(images)


def encode_clusters(model: VPOGModel, clusters: Sequence[Cluster]) -> list[Encoded]:
    """Return the encodings [S, ...] of clusters of one object or several, as a match reads templates.

    Those that are not kept from an earlier call are encoded in few passes, each of them once.
    """
    kind = type(model), uses_bfloat16(model)
    found = {id(c): None if c.kept is None else c.kept.get(kind) for c in clusters}
    new = list({id(c): c for c in clusters if found[id(c)] is None}.values())
    for cluster, encoded in zip(new, _encode_all(model, new), strict=True):
        found[id(cluster)] = encoded
        if cluster.kept is not None:
            cluster.kept[kind] = encoded
    return [found[id(c)] for c in clusters]


def _encode_all(model: VPOGModel, clusters: Sequence[Cluster]) -> list[Encoded]:
    """Encode the views of clusters in batches."""
    if not clusters:
        return []
    rgb = np.concatenate([c.rgb for c in clusters])
    parts = [
        encode_images(model, rgb[n : n + IMAGES_PER_BATCH]) for n in range(0, len(rgb), IMAGES_PER_BATCH)
    ]
    encoded = as_templates(model, Encoded.join(torch.cat, parts))
    ends = np.cumsum([len(c.rgb) for c in clusters])
    # Copies: a slice would keep the whole batch alive as long as one of its clusters.
    return [encoded[end - len(c.rgb) : end].map(torch.clone) for c, end in zip(clusters, ends, strict=True)]


def as_templates(model: VPOGModel, encoded: Encoded) -> Encoded:
    """Return of an encoding what a match reads of templates, in the precision that it is multiplied in."""
    multiplied_in = torch.bfloat16 if uses_bfloat16(model) else encoded.tokens.dtype
    return Encoded(encoded.tokens, encoded.stem.to(multiplied_in))


def describe_templates(
    model: VPOGModel, templates: TemplateSet, progress: Callable[[int, int], None] | None = None
) -> Tensor:
    """Describe every template at its turns, for retrieval.

    Args:
        progress: called with (views done, views).

    Returns:
        descriptors [V * TEMPLATE_TURNS, C], view-major.
    """
    descriptors = []
    rolls = [2 * np.pi * turn / TEMPLATE_TURNS for turn in range(TEMPLATE_TURNS)]
    count = len(templates.images)
    for start in range(0, count, VIEWS_PER_BATCH):
        cancellation.check()
        views = range(start, min(start + VIEWS_PER_BATCH, count))
        rolled = np.stack([rotate_image(templates.images[v], roll) for v in views for roll in rolls])
        with torch.inference_mode():
            descriptors.append(model.describe_templates(encode_images(model, rolled)))
        if progress:
            progress(views.stop, count)
    return torch.cat(descriptors)
