"""Count the work of a frame: a change that makes the estimator do more or less shows without a clock.

True correspondences take the place of what the untrained network says, so that the way of a frame through the
pipeline hangs on no weights but the refiner's; everything that costs time is run as it is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vpog_core.geometry.se3 import invert, rotation_x, rotation_y, rotation_z, transform
from vpog_core.inference import matching
from vpog_core.inference.calibration import Calibration
from vpog_core.inference.correspondence import Correspondences
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.inference.networks import DEFAULT_REFINER, Networks
from vpog_core.inference.pose_solver import compute_score_features, solve_poses
from vpog_core.inference.query import Prior
from vpog_core.models.checkpoint import load_refiner
from vpog_core.models.config import PRESETS
from vpog_core.models.cost import network_cost, refiner_cost
from vpog_core.models.refiner import RefinerNet
from vpog_core.models.refiner_config import REFINER_PRESETS
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.objects.renderer import Renderer
from vpog_core.synthetic.plain import painted_plain
from vpog_core.types import Camera, Detection

REFERENCE = {
    "new": {"GFLOP": 25.7, "network calls": 10, "templates": 12, "renders": 5},
    "new, its templates encoded before": {"GFLOP": 21.63, "network calls": 9, "templates": 4, "renders": 5},
    "new, without print": {"GFLOP": 25.7, "network calls": 10, "templates": 12, "renders": 9},
    "new, no pose convinces": {"GFLOP": 94.85, "network calls": 26, "templates": 84, "renders": 15},
    "tracked": {"GFLOP": 0.0, "network calls": 0, "templates": 0, "renders": 2},
    "tracked from where it was found": {"GFLOP": 0.0, "network calls": 0, "templates": 0, "renders": 1},
    "tracked and looked for anew": {"GFLOP": 12.38, "network calls": 2, "templates": 0, "renders": 2},
    "four, new": {"GFLOP": 25.7, "network calls": 10, "templates": 48, "renders": 20},
    "four, tracked": {"GFLOP": 0.0, "network calls": 0, "templates": 0, "renders": 8},
    "four, tracked from there": {"GFLOP": 0.0, "network calls": 0, "templates": 0, "renders": 4},
}
"""The work of one frame in each case. GFLOP: of vpog-tiny and refiner-tiny for each detection, by the cost
tables of docs/network.md; network calls: of any network, whatever the batch; templates: images of templates
that are encoded; renders: of a mesh. A change that moves a number by more than a fifth fails here."""
TOLERANCE = 0.2

CAMERA = Camera(np.array([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]]), 640, 480)
STRIDE = 2
"""Every second pixel of a crop has a correspondence."""


class Work:
    """Counts what the networks and the renderer are asked for."""

    def __init__(self, monkeypatch) -> None:
        self.calls = self.renders = 0
        self.done = dict.fromkeys(("encode", "match", "flow", "retrieve", "compare"), 0)
        self.templates = 0
        for step, name in (
            ("encode", "encode"),
            ("match", "match"),
            ("retrieve", "describe"),
        ):
            monkeypatch.setattr(VPOGModel, name, self._counted(getattr(VPOGModel, name), step))
        monkeypatch.setattr(VPOGModel, "flow_of_pairs", self._of_pairs(VPOGModel.flow_of_pairs))
        monkeypatch.setattr(RefinerNet, "forward", self._counted(RefinerNet.forward, "compare"))
        for name in ("render", "render_rgb"):
            monkeypatch.setattr(Renderer, name, self._render(getattr(Renderer, name)))
        monkeypatch.setattr(matching, "encode_clusters", self._of_templates(matching.encode_clusters))

    def per_frame(self, detections: int) -> dict[str, float]:
        """Give the numbers that `REFERENCE` holds."""
        network, refiner = PRESETS["vpog-tiny"], REFINER_PRESETS["refiner-tiny"]
        each = {**vars(network_cost(network)), "compare": refiner_cost(refiner)[1]}
        operations = sum(number * each[step] for step, number in self.done.items())
        return {
            "GFLOP": round(operations / detections / 1e9, 2),
            "network calls": self.calls,
            "templates": self.templates,
            "renders": self.renders,
        }

    def _counted(self, method, step: str):
        def counted(network, first, *others):
            self.calls += 1
            self.done[step] += len(getattr(first, "tokens", getattr(first, "logits", first)))
            return method(network, first, *others)

        return counted

    def _of_pairs(self, method):
        def counted(network, matches, pairs):
            self.calls += 1
            self.done["flow"] += len(pairs) / matches.logits[0].shape[:2].numel()
            return method(network, matches, pairs)

        return counted

    def _render(self, method):
        def counted(*arguments, **options):
            self.renders += 1
            return method(*arguments, **options)

        return counted

    def _of_templates(self, encode):
        def counted(*arguments):
            before = self.done["encode"]
            encoded = encode(*arguments)
            self.templates += self.done["encode"] - before
            return encoded

        return counted


class Truth:
    """Holds an image of some objects, their detections, and the output of a perfect network."""

    def __init__(self, renderer: Renderer, count: int) -> None:
        self.renderer = renderer
        self.image = np.full((480, 640, 3), (90, 100, 80), np.uint8)
        self.poses, self.detections = [], []
        for n in range(count):
            R = rotation_z(0.3 * n) @ rotation_x(1.9 + 0.2 * n) @ rotation_y(0.4 * n)
            place = np.array([0.2 * (n - (count - 1) / 2), 0.02 * n, 0.75])
            self.poses.append(transform(R, place - R @ renderer.mesh.center))
            view = renderer.render(self.poses[-1], CAMERA.K, (480, 640))
            self.image[view.mask] = view.rgb[view.mask]
            rows, columns = np.nonzero(view.mask)
            box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=float)
            self.detections.append(Detection("thing", box, instance=n))

    def solve_all(self, crops, clusters, matches, settings, calibration) -> list[PoseHypothesis]:
        """Solve true correspondences in the place of those that the network finds."""
        pairs = [self._pairs(crop) for crop in crops]
        poses = solve_poses(crops, pairs, calibration)
        features = [compute_score_features(p, pose) for p, pose in zip(pairs, poses, strict=True)]
        found = zip(crops, clusters, matches, pairs, poses, features, strict=True)
        return [PoseHypothesis(*one, float(calibration.probability(one[-1]))) for one in found]

    def _pairs(self, crop) -> Correspondences:
        """Return correspondences of the true pose nearest to the axis of the crop's camera."""
        centers = [T[:3, :3] @ self.renderer.mesh.center + T[:3, 3] for T in self.poses]
        along = [crop.virtual.R_virt_cam[2] @ c / np.linalg.norm(c) for c in centers]
        T_virt_obj = invert(crop.virtual.T_cam_virt) @ self.poses[int(np.argmax(along))]
        # Not the counted method: this work is the test's own.
        hits = self.renderer.cast(T_virt_obj, crop.virtual.K, (crop.virtual.size,) * 2)
        chosen = slice(None, None, STRIDE)
        corners = self.renderer.mesh.vertices[self.renderer.mesh.faces[hits.face[chosen]]]
        points = (corners * hits.weights[chosen][..., None]).sum(axis=1)
        y, x = np.divmod(hits.pixel[chosen], crop.virtual.size)
        ones = np.ones(len(points))
        pixels = np.stack([x, y], axis=-1).astype(float)
        return Correspondences(pixels, points, ones, ones, np.zeros(len(points), int), pixels)


def sure(bias: float) -> Calibration:
    """Return a calibration by which all poses have a high score, or none."""
    own = Calibration()
    kinds = {name: replace(getattr(own, name), bias=bias) for name in ("aligned", "refined", "tracked")}
    return replace(own, bias=bias, **kinds)


@pytest.fixture(autouse=True)
def one_thread():
    """Let one thread work on all detections: several call the networks for a part of them each."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def estimator_of(workshop, small_model):
    """Make an estimator of an onboarded object that has seen no image yet; its poses score high, or not."""
    refiner = load_refiner(DEFAULT_REFINER, "cpu")
    PoseEstimator(**workshop, device="cpu").onboard()

    def made(bias: float = 30.0) -> PoseEstimator:
        networks = Networks.load(workshop["weights"], device="cpu", precision="float32")
        networks = replace(networks, calibration=sure(bias), refiner=refiner)
        estimator = PoseEstimator(workshop["objects"], networks, cache_dir=workshop["cache_dir"])
        estimator.onboard()
        return estimator

    return made


@pytest.fixture
def count(estimator_of, mesh, monkeypatch):
    """Count what a frame of some detections costs, once some frames like it were seen."""

    def counted(
        detections: int = 1,
        seen: int = 0,
        prior: dict | None = None,
        bias: float = 30.0,
        tracked_before: bool = False,
        has_print: bool = True,
    ) -> dict:
        shown = mesh if has_print else painted_plain(mesh, "plain")
        estimator, truth = estimator_of(bias), Truth(Renderer(shown), detections)
        monkeypatch.setattr(matching, "solve_all", truth.solve_all)
        priors = None if prior is None else [Prior(T, 0.4, **prior) for T in truth.poses]
        for _ in range(seen):
            estimator.estimate(truth.image, CAMERA, truth.detections)
        if tracked_before:
            found = estimator.estimate(truth.image, CAMERA, truth.detections, priors)
            priors = [Prior(e.T_cam_obj, 0.4) for e in found]
        with monkeypatch.context() as counting:
            work = Work(counting)
            found = estimator.estimate(truth.image, CAMERA, truth.detections, priors)
        for estimate, T in zip(found, truth.poses, strict=True):
            # Right, so the frame went the way that frames go.
            np.testing.assert_allclose(estimate.T_cam_obj, T, atol=0.03)
        return work.per_frame(detections)

    return counted


CASES = {
    "new": {},
    "new, its templates encoded before": {"seen": 1},
    "new, without print": {"has_print": False},
    "new, no pose convinces": {"bias": -1000.0},
    "tracked": {"prior": {}},
    "tracked from where it was found": {"prior": {}, "tracked_before": True},
    "tracked and looked for anew": {"prior": {"search_all_views": True}, "seen": 1},
    "four, new": {"detections": 4},
    "four, tracked": {"detections": 4, "prior": {}},
    "four, tracked from there": {"detections": 4, "prior": {}, "tracked_before": True},
}


@pytest.mark.parametrize("case", CASES)
def test_a_frame_costs_what_it_did(count, case):
    now, reference = count(**CASES[case]), REFERENCE[case]
    more = [name for name in reference if now[name] > reference[name] * (1 + TOLERANCE)]
    less = [name for name in reference if now[name] < reference[name] * (1 - TOLERANCE)]
    assert not more, f"{case}: more {', '.join(more)} than a fifth over the reference: {now}, {reference}"
    assert not less, f"{case}: fewer {', '.join(less)}: well done; put {now} into REFERENCE for {reference}"
