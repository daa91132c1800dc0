"""Define a pose hypothesis: one pose that an object in a crop may have, and what it was solved from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpog_core.geometry.pnp import Consensus, PnPResult
from vpog_core.geometry.se3 import rotate_covariance
from vpog_core.inference.correspondence import Correspondences, DenseMatch
from vpog_core.inference.crop import Crop
from vpog_core.inference.onboarding import Cluster


@dataclass(frozen=True, eq=False)
class PoseHypothesis:
    """Holds a pose of the object in a crop, its score, and what it was solved from.

    It never changes: a refined pose is another hypothesis, made by `dataclasses.replace`.

    Attributes:
        crop: the image region the pose is of.
        cluster: the templates the crop was matched with; match: the network's output.
        pairs: correspondences from the match. These three are None for a pose that was followed from an
            earlier image, without a match.
        pnp: pose in the crop's virtual camera, inliers among `pairs` (else among what `support` was made of),
            covariance; None: no pose was found.
        score_features: [F] the features that the score is computed from, see `calibration.FEATURES`, with the
            similarity once the pose was compared with the image, or `calibration.TRACKED_FEATURES`; None
            without a pose.
        score: 0..1, the probability that the pose is correct.
        similarity: of the image and a render at the pose, -1..1; None where they were not compared.
        support: what a pose that was aligned or followed was solved from, in place of `pairs`; else None.
        has_flow: see `Alignment.has_flow`.
        converged: further rendering and matching would hardly change the pose.
    """

    crop: Crop
    cluster: Cluster | None
    match: DenseMatch | None
    pairs: Correspondences | None
    pnp: PnPResult | None
    score_features: np.ndarray | None
    score: float
    similarity: float | None = None
    support: Consensus | None = None
    has_flow: bool = False
    converged: bool = False

    @property
    def has_pose(self) -> bool:
        """Tell whether a pose was found."""
        return self.pnp is not None

    @property
    def T_virt_obj(self) -> np.ndarray:
        """The pose [4, 4] in the crop's virtual camera."""
        return self.pnp.T_virt_obj

    @property
    def T_cam_obj(self) -> np.ndarray:
        """The pose [4, 4] in the real camera's frame."""
        return self.crop.virtual.T_cam_virt @ self.pnp.T_virt_obj

    @property
    def covariance(self) -> np.ndarray:
        """The covariance [6, 6] of (x, y, z, rotation), metres and radians, in the real camera's frame."""
        return rotate_covariance(self.pnp.covariance, self.crop.virtual.T_cam_virt[:3, :3])
