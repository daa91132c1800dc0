"""Draw pose, matches and flow that the network finds in validation samples, at every validation."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import lightning.pytorch as L
import numpy as np
import torch
from scipy.spatial import ConvexHull, QhullError

from vpog_core.geometry.camera import VirtualCamera
from vpog_core.inference.correspondence import dense_matches
from vpog_core.inference.crop import Crop
from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.inference.match_view import match_view
from vpog_core.inference.pose_solver import solve
from vpog_core.models.vpog_model import Encoded, VPOGModel
from vpog_core.training.data.batch import Batch
from vpog_core.types import Camera
from vpog_core.visualization.drawing import draw_text
from vpog_core.visualization.flow_image import draw_match
from vpog_core.visualization.overlay import PoseDrawing, draw_poses

TILE = 336
GAP = 8
TRUE, FOUND = (255, 255, 255), (90, 220, 120)


class ValidationFigures(L.Callback):
    """Draws the first query of a few validation samples with the averaged weights.

    One sheet a validation goes to `folder` and to every logger that takes images.

    Args:
        folder: for step-NNNNNN.png; count: samples.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count
        self._rows: list[np.ndarray] = []

    def on_validation_batch_end(
        self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0
    ) -> None:
        missing = self.count - len(self._rows)
        if trainer.is_global_zero and not trainer.sanity_checking and missing > 0:
            # Where photometry is left to the device, images are not black yet beyond their borders.
            shown = batch.with_images(getattr(batch, batch.IMAGES))
            self._rows += pl_module.draw(shown, missing)

    def on_validation_end(self, trainer, pl_module) -> None:
        if not self._rows:
            return
        sheet, self._rows = np.concatenate(self._rows), []
        step = trainer.global_step
        self.folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(self.folder / f"step-{step:06d}.png"), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image("val/samples", [sheet], step=step)
            elif hasattr(logger.experiment, "add_image"):
                logger.experiment.add_image("val/samples", sheet, step, dataformats="HWC")


def draw_batch(network: VPOGModel, batch: Batch, count: int) -> list[np.ndarray]:
    """Draw a row [h, w, 3] uint8 for each of the first samples: true and found pose, then the match."""
    rows = []
    for sample in range(min(count, len(batch))):
        hypothesis = solve_sample(network, batch, sample)
        T_true = batch.query_T[sample, 0].double().cpu().numpy()
        rows.append(_row(hypothesis, T_true))
    return rows


@torch.no_grad()
def solve_sample(network: VPOGModel, batch: Batch, sample: int) -> PoseHypothesis:
    """Match the first query of a sample with its cluster of S templates, and solve its pose."""
    rgb = batch.template_rgb[sample, : batch.template_depth.shape[1]]
    images = torch.cat((batch.query_rgb[sample, :1], rgb)).permute(0, 3, 1, 2).float() / 255.0
    encoded = network.encode(images)
    matches = network.match(
        Encoded(encoded.tokens[:1], encoded.stem[:1]),
        Encoded(encoded.tokens[None, 1:], encoded.stem[None, 1:]),
        batch.directions[sample, None],
    )
    matches = type(matches)(*(value.float() for value in vars(matches).values()))
    depth, K, T = (
        v[sample].double().cpu().numpy() for v in (batch.template_depth, batch.template_K, batch.template_T)
    )
    coords = np.stack([object_points(*view) for view in zip(depth, K, T[: len(depth)], strict=True)])
    query_rgb, query_K = (
        batch.query_rgb[sample, 0].cpu().numpy(),
        batch.query_K[sample, 0].double().cpu().numpy(),
    )
    crop = Crop(query_rgb, None, VirtualCamera(query_K, np.eye(3), len(query_rgb)))
    cluster = SimpleNamespace(rgb=rgb.cpu().numpy(), coords=coords)
    return solve(crop, cluster, dense_matches(network, matches)[0])


def object_points(depth: np.ndarray, K: np.ndarray, T_view_obj: np.ndarray) -> np.ndarray:
    """Lift a posed depth image [P, P] to points [P, P, 3], metres, object frame; NaN where it is 0."""
    v, u = np.mgrid[0 : len(depth), 0 : len(depth)]
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(K).T
    points = (rays * depth[..., None] - T_view_obj[:3, 3]) @ T_view_obj[:3, :3]
    return np.where(depth[..., None] > 0, points, np.nan)


def _row(hypothesis: PoseHypothesis, T_true: np.ndarray) -> np.ndarray:
    """Draw poses as outlines of the convex hull of what the templates show: white true, green found."""
    scale = TILE / len(hypothesis.crop.rgb)
    K = hypothesis.crop.virtual.K.copy()
    K[:2] *= scale
    K[:2, 2] += (scale - 1) / 2
    image = cv2.resize(hypothesis.crop.rgb, (TILE, TILE), interpolation=cv2.INTER_CUBIC)
    vertices, faces = _hull(hypothesis.cluster.coords)
    drawings = [PoseDrawing(T_true, vertices, faces, TRUE)]
    if hypothesis.pnp is not None:
        drawings.append(PoseDrawing(hypothesis.pnp.T_virt_obj, vertices, faces, FOUND))
    if len(faces):
        image = draw_poses(image, Camera(K, TILE, TILE), drawings)
    panel = draw_match(match_view(hypothesis), tile=TILE)
    tile = np.full((len(panel), TILE + GAP, 3), panel[0, 0], np.uint8)
    tile[-TILE - GAP : -GAP, GAP:] = image
    draw_text(tile, "pose: white true, green found", (GAP + 2, GAP // 2), TILE // 21)
    return np.concatenate([tile, panel], axis=1)


def _hull(coords: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices [V, 3] and faces [F, 3] of the convex hull; no face where the points span no volume."""
    points = coords[np.isfinite(coords).all(axis=-1)]
    try:
        return points, ConvexHull(points).simplices
    except (QhullError, ValueError):
        return points, np.zeros((0, 3), int)
