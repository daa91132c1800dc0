"""Define the values that the parts of the package exchange.

Metres, radians and pixels throughout; pixel centres at integer coordinates; camera frames are
OpenCV optical (x right, y down, z forward); `T_a_b` maps points of frame b into frame a.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

CAMERA_MODELS = ("plumb_bob", "rational_polynomial", "equidistant")
COEFFICIENT_COUNTS = {
    "plumb_bob": (0, 4, 5, 8, 12, 14),
    "rational_polynomial": (0, 4, 5, 8, 12, 14),
    "equidistant": (0, 4),
}
"""Numbers of distortion coefficients that OpenCV accepts for each model."""
MODEL_NAMES = {
    "": "plumb_bob",
    "none": "plumb_bob",
    "pinhole": "plumb_bob",
    "radtan": "plumb_bob",
    "radial_tangential": "plumb_bob",
    "brown_conrady": "plumb_bob",
    "rational": "rational_polynomial",
    "fisheye": "equidistant",
    "equi": "equidistant",
    "kannala_brandt": "equidistant",
    "kannala_brandt4": "equidistant",
}
"""Other names of `CAMERA_MODELS`, lower case, words joined by `_`."""
MAX_FOCAL_LENGTH = 1e6
"""Largest focal length, pixels; beyond it, and below one, rounding errors exceed a pixel."""
MAX_SIDE = 65535
"""Largest number of pixels of an image's longer side."""


class VPOGError(ValueError):
    """Reports an error that the user can fix, in one sentence: what is wrong and what to do."""


def sentence_of(error: BaseException) -> str:
    """Describe an error that is not a VPOGError in one line: its type and its shortened text."""
    text = " ".join(str(error).split())
    text = text if len(text) <= 200 else f"{text[:200]} ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class Region(NamedTuple):
    """Locates an image in the full image of its camera's sensor, in pixels of the image."""

    x: float
    y: float
    whole_width: int
    whole_height: int


@dataclass(frozen=True)
class Camera:
    """Holds a calibrated camera, as in `sensor_msgs/CameraInfo`.

    Attributes:
        K: [3, 3] float64 intrinsics, pixels.
        width, height: image size, pixels.
        distortion: [n] float64 coefficients of `model` (n = 0 for none), in OpenCV's order.
        model: one of `CAMERA_MODELS`, or another name of it; `equidistant` is OpenCV's fisheye model.
        region: where this image lies in a larger one, or None for a whole image.
        checked: `geometry.camera_checks` has checked it, and what is unlikely about it was reported.

    Raises:
        VPOGError: K is not an intrinsic matrix, impossible size, unknown model, wrong number of coefficients.
    """

    K: np.ndarray
    width: int
    height: int
    distortion: np.ndarray = field(default_factory=lambda: np.zeros(0))
    model: str = "plumb_bob"
    region: Region | None = None
    checked: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        K = _intrinsic_matrix(self.K)
        distortion = np.asarray(self.distortion, dtype=np.float64).ravel()
        if not distortion.any() or self.model not in ("", "none"):
            object.__setattr__(self, "model", MODEL_NAMES.get(self.model, self.model))
        object.__setattr__(self, "K", K)
        object.__setattr__(self, "distortion", distortion)
        _check_intrinsics(K)
        if not (0 < self.width <= MAX_SIDE and 0 < self.height <= MAX_SIDE):
            raise VPOGError(
                f"The camera's image size is {self.width}x{self.height}: set width and height in CameraInfo."
            )
        _check_distortion(self.model, distortion)

    @property
    def resolution(self) -> float:
        """The smaller focal length: pixels a radian in the image's middle, along the coarser axis."""
        return float(min(self.K[0, 0], self.K[1, 1]))


_GIVE_K = "give an intrinsic matrix, [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]"


def _intrinsic_matrix(values: Any) -> np.ndarray:
    try:
        K = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise VPOGError(f"K is a {type(values).__name__}: {_GIVE_K}.") from error
    if K.size != 9:
        raise VPOGError(f"K has {K.size} numbers: {_GIVE_K}.")
    return K.reshape(3, 3)


def _check_intrinsics(K: np.ndarray) -> None:
    if not (np.isfinite(K).all() and (K[[0, 1], [0, 1]] >= 1).all() and (K <= MAX_FOCAL_LENGTH).all()):
        raise VPOGError(
            f"The camera's focal length is ({K[0, 0]:g}, {K[1, 1]:g}) pixels and its principal point "
            f"({K[0, 2]:g}, {K[1, 2]:g}): publish a calibrated CameraInfo."
        )
    if not np.allclose(K[[1, 2, 2, 2], [0, 0, 1, 2]], (0, 0, 0, 1), atol=1e-6):
        raise VPOGError(
            f"K is {np.round(K, 3).tolist()}, but an intrinsic matrix is [[fx, 0, cx], [0, fy, cy], "
            "[0, 0, 1]]: check the order of its numbers."
        )
    if abs(K[0, 1]) > 1:
        raise VPOGError(
            f"K has a skew of {K[0, 1]:g} pixels, which is not supported: calibrate the camera without skew."
        )


def _check_distortion(model: str, distortion: np.ndarray) -> None:
    if model not in CAMERA_MODELS:
        raise VPOGError(f"Distortion model '{model}' is not known: use one of {', '.join(CAMERA_MODELS)}.")
    if not np.isfinite(distortion).all():
        raise VPOGError("The camera's distortion has values that are not finite: calibrate it again.")
    allowed = COEFFICIENT_COUNTS[model]
    if distortion.size not in allowed:
        raise VPOGError(
            f"Distortion model '{model}' has {distortion.size} coefficients: it takes one of {allowed}."
        )


@dataclass(frozen=True)
class Detection:
    """Holds one object detected in one image.

    Attributes:
        class_id: name of the object in the library, or an alias of it.
        box: [4] (x0, y0, x1, y1), an array or any sequence of four numbers: outer edges, where pixel
            centres are at integers, so that the pixels 7 to 9 span 6.5 to 9.5; None: that of the mask.
        score: the detector's confidence, 0..1.
        mask: [H, W] bool in the image's size, or None.
        instance: tells objects of one class apart within a frame; less than 0: its detector gives no number.
    """

    class_id: str
    box: np.ndarray | Sequence[float] | None
    score: float = 1.0
    mask: np.ndarray | None = None
    instance: int = 0


@dataclass
class MatchView:
    """Holds what the network saw and matched for one detection, for drawing.

    P is the crop's side in pixels, M the number of correspondences.

    Attributes:
        crop: [P, P, 3] uint8 RGB, the virtual camera's image.
        template: [P, P, 3] uint8 RGB, the template most patches matched.
        flow: [P, P, 2] float32, from a crop pixel to its place in that template, pixels (x, y).
        confidence: [P, P] float32, 0..1.
        seen: [P, P] bool, False where the template does not show what the crop pixel shows.
        points_2d: [M, 2] float32, crop pixels of the correspondences in that template.
        points_template: [M, 2] float32, where they lie in the template, pixels.
        inlier: [M] bool, agree with the pose found.
    """

    crop: np.ndarray
    template: np.ndarray
    flow: np.ndarray
    confidence: np.ndarray
    seen: np.ndarray
    points_2d: np.ndarray
    points_template: np.ndarray
    inlier: np.ndarray


@dataclass
class PoseEstimate:
    """Holds the pose of one detection, or the reason why there is none.

    Attributes:
        T_cam_obj: [4, 4] float64, or None when no pose was found (then `reason` says why).
        score: the probability that the pose is correct, 0..1.
        covariance: [6, 6] float64, order (x, y, z, rotation about x, y, z) in the camera frame, or None.
        inliers: correspondences that agree with the pose.
        reprojection_error: root mean square over the inliers, pixels of the crop.
        reason: empty when there is a pose, else one sentence.
        alternatives: the next best poses, of different views, best first, if requested.
        samples: [N, 4, 4] equally likely poses from the distribution of this one, if requested.
        score_features: [F] the features that the score is computed from (`inference.calibration.FEATURES`,
            and the similarity if the pose was compared with the image), or None.
        similarity: of the image and a render at the pose, -1..1; None if they were not compared.
        aligned: the alignment with the image has moved the pose.
        tracked: followed from the previous pose, without a search among other views.
        detected: the object was detected in this image; else it was followed without a detection.
        detection_age: seconds since the image in which the object was last detected; 0 where it is this one.
        draw_match: makes `match`, or None. It keeps the crop and its matches, some 2.5 MB: to store many
            estimates, store `dataclasses.replace(estimate, draw_match=None)`. Neither pickled nor copied.
    """

    class_id: str
    instance: int = 0
    T_cam_obj: np.ndarray | None = None
    score: float = 0.0
    covariance: np.ndarray | None = None
    inliers: int = 0
    reprojection_error: float = 0.0
    reason: str = ""
    alternatives: list[PoseEstimate] = field(default_factory=list)
    samples: np.ndarray | None = None
    score_features: np.ndarray | None = None
    similarity: float | None = None
    aligned: bool = False
    tracked: bool = False
    detected: bool = True
    detection_age: float = 0.0
    draw_match: Callable[[], MatchView] | None = field(default=None, repr=False, compare=False)

    @cached_property
    def match(self) -> MatchView | None:
        """The match for drawing, computed on first use; None where there is none.

        A tracked pose is found without one; its crop is matched with the nearest templates then.
        """
        return None if self.draw_match is None else self.draw_match()

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: all but the match and what makes it, which holds the networks."""
        return {**vars(self), "draw_match": None, "match": None}


class Estimates(list[PoseEstimate]):
    """Holds the estimates of one image's detections, in their order.

    Attributes:
        timings: seconds that each stage of the call took.
    """

    def __init__(
        self, estimates: Iterable[PoseEstimate] = (), timings: Mapping[str, float] | None = None
    ) -> None:
        super().__init__(estimates)
        self.timings: dict[str, float] = dict(timings or {})
