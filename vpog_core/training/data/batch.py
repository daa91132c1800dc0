"""Define the batches that the data sets make and the losses read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor


@dataclass
class Batch:
    """Holds B samples of Q queries and T templates, the first S of them the cluster; see `VPOGTrainDataset`.

    Of a symmetric object `query_T` is the pose nearest to the reference, and `distance` [B, Q, T] (radians)
    that to the nearest of the poses that look alike. `query_outside` [B, Q, P, P] bool lies beyond the border
    of the camera's image.
    """

    IMAGES: ClassVar[str] = "query_rgb"
    """The field of the camera's images."""

    query_rgb: Tensor
    query_depth: Tensor
    query_K: Tensor
    query_T: Tensor
    template_rgb: Tensor
    template_depth: Tensor
    template_K: Tensor
    template_T: Tensor
    directions: Tensor
    diameter: Tensor
    distance: Tensor
    query_outside: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch on a device."""
        return Batch(**{key: value.to(device, non_blocking=True) for key, value in vars(self).items()})

    def with_images(self, images: Tensor) -> Batch:
        """Return the same with other images of the camera, black beyond their borders."""
        return replace(self, query_rgb=images.masked_fill(self.query_outside[..., None], 0))

    def __len__(self) -> int:
        """Return B."""
        return len(self.diameter)

    @property
    def cluster_size(self) -> int:
        """Return S."""
        return self.template_depth.shape[1]

    def images(self) -> Tensor:
        """Return the images that are matched: [B * (Q + S), 3, P, P] uint8, queries first in each sample."""
        matched = torch.cat((self.query_rgb, self.template_rgb[:, : self.cluster_size]), dim=1)
        return matched.flatten(0, 1).permute(0, 3, 1, 2)

    def candidate_images(self) -> Tensor:
        """Return the further templates, which only retrieval sees: [B * (T - S), 3, P, P] uint8."""
        return self.template_rgb[:, self.cluster_size :].flatten(0, 1).permute(0, 3, 1, 2)

    def per_query(self, templates: Tensor) -> Tensor:
        """Repeat [B, S, ...] as [B * Q, S, ...]: each query gets its sample's templates."""
        return templates.repeat_interleave(self.query_rgb.shape[1], dim=0)

    def rotation_distance(self) -> Tensor:
        """Return [B, Q, T] radians between each query and template on SO(3), symmetries taken out."""
        return self.distance


@dataclass
class RefinerBatch:
    """Holds B pairs of image and render; P is their side, pixels.

    Attributes:
        image_rgb, render_rgb: [B, P, P, 3] uint8.
        render_normals: [B, P, P, 3] unit, camera frame, zero in the background.
        render_depth: [B, P, P] metres, 0 in the background; image_depth: the same, 0 also where hidden.
        K: [B, 3, 3] pixels; T_true, T_start: [B, 4, 4], of the crop's camera; of equivalent true poses the
            one nearest to the start.
        diameter: [B] metres; image_outside: [B, P, P] bool, beyond the border of the camera's image.
    """

    IMAGES: ClassVar[str] = "image_rgb"
    """The field of the camera's images."""

    image_rgb: Tensor
    render_rgb: Tensor
    render_normals: Tensor
    render_depth: Tensor
    image_depth: Tensor
    K: Tensor
    T_true: Tensor
    T_start: Tensor
    diameter: Tensor
    image_outside: Tensor

    def to(self, device: torch.device | str) -> RefinerBatch:
        """Return the same on a device."""
        return RefinerBatch(**{k: v.to(device, non_blocking=True) for k, v in vars(self).items()})

    def with_images(self, images: Tensor) -> RefinerBatch:
        """Return the same with other images of the camera, black beyond their borders."""
        return replace(self, image_rgb=images.masked_fill(self.image_outside[..., None], 0))

    def __len__(self) -> int:
        """Return B."""
        return len(self.diameter)

    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what the network compares: image, render, normals, mask."""
        image, render, normals = (
            v.permute(0, 3, 1, 2) for v in (self.image_rgb, self.render_rgb, self.render_normals)
        )
        return image, render, normals, self.render_depth > 0


@dataclass
class HypothesisBatch:
    """Holds B recorded hypotheses; P is the side of image and render, pixels.

    Attributes:
        image_rgb, render_rgb: [B, P, P, 3] uint8.
        render_normals: [B, P, P, 3] unit, camera frame, zero in the background; render_mask: [B, P, P] bool.
        error: [B] MSSD of the poses, in diameters.
    """

    IMAGES: ClassVar[str] = "image_rgb"
    """The field of the camera's images."""

    image_rgb: Tensor
    render_rgb: Tensor
    render_normals: Tensor
    render_mask: Tensor
    error: Tensor

    def __len__(self) -> int:
        """Return B."""
        return len(self.error)

    def with_images(self, images: Tensor) -> HypothesisBatch:
        """Return the same with other images of the camera."""
        return replace(self, image_rgb=images)

    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what the network compares: image, render, normals, mask."""
        image, render, normals = (
            v.permute(0, 3, 1, 2) for v in (self.image_rgb, self.render_rgb, self.render_normals)
        )
        return image, render, normals, self.render_mask
