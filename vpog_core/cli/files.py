"""Write the files of the command line, and prepare the folders and meshes it works with."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from vpog_core.geometry.se3 import quaternion_xyzw
from vpog_core.types import PoseEstimate, VPOGError

if TYPE_CHECKING:
    from vpog_core.objects.mesh import Mesh


def stage_mesh(path: str | Path, unit: str, folder: Path) -> str:
    """Copy one mesh, in metres, into an empty folder that serves as object library; returns its id there.

    Raises:
        VPOGError: the mesh cannot be used, see `load_mesh`.
    """
    from vpog_core.objects.mesh import save_mesh

    mesh = read_mesh(path, unit)
    print_notes(mesh)
    textured = mesh.uv is not None and mesh.texture is not None
    # A library ignores hidden files; this one was named explicitly.
    object_id = Path(path).stem.lstrip(".") or "object"
    save_mesh(mesh, folder / f"{object_id}{'.glb' if textured else '.ply'}")
    return object_id


def read_mesh(path: str | Path, unit: str) -> Mesh:
    """Read a mesh file of the command line, whose unit is set by --unit.

    Raises:
        VPOGError: the mesh cannot be used, see `load_mesh`.
    """
    from vpog_core.objects.mesh import load_mesh

    try:
        return load_mesh(path, unit)
    except VPOGError as error:
        raise VPOGError(re.sub(r"`unit: (\w+)`", r"--unit \1", str(error))) from error


def print_notes(mesh) -> None:
    """Print on stderr what a mesh's file holds and was left out, and what is doubtful about it."""
    for note in mesh.notes:
        print(f"vpog: {note}", file=sys.stderr)


def onboard_with_progress(
    estimator, object_id: str | None = None, mesh: str | Path | None = None, workers: int = 1
) -> dict[str, str]:
    """Onboard one object of an estimator, or all, with a progress bar on stderr for what takes long.

    Objects that look symmetric and are not declared so are named on stderr.

    Args:
        mesh: the file of the one object, where the estimator has a copy of it.
        workers: processes that onboard several objects.

    Returns:
        the objects that cannot be used, each with the sentence that says why.
    """
    from tqdm import tqdm

    from vpog_core.objects.symmetry_hint import symmetry_hint

    bars: dict[str, tqdm] = {}

    def progress(done: int, total: int, name: str) -> None:
        if name not in bars:
            bars[name] = tqdm(total=total, desc=f"onboarding {name}", unit="step", delay=1.0, file=sys.stderr)
        bars[name].update(done - bars[name].n)

    try:
        left_out = estimator.onboard(object_id, progress=progress, workers=workers)
    finally:
        for bar in bars.values():
            bar.close()
    for name in estimator.object_ids if object_id is None else [object_id]:
        if name not in left_out and (hint := symmetry_hint(estimator.library, name, mesh)):
            print(f"vpog: {hint}", file=sys.stderr)
    return left_out


def check_output(path: str | Path, what: str = "folder", remedy: str = "choose another") -> None:
    """Raise a VPOGError for a folder that cannot hold results, before any work; change nothing.

    Args:
        what, remedy: name the folder, and what to do, in the sentence.
    """
    folder = Path(path)
    existing = next((part for part in (folder, *folder.parents) if part.exists()), Path())
    if not existing.is_dir():
        raise VPOGError(f"The {what} '{folder}' cannot be made, '{existing}' is a file: {remedy}.")
    try:
        # Permissions alone do not tell: a disk may be full, or be there to be read only.
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise VPOGError(f"The {what} '{folder}' cannot be written ({reason}): {remedy}.") from error


def check_output_file(path: str | Path) -> None:
    """Raise a VPOGError for a file that cannot be written, before any work; change nothing."""
    if Path(path).is_dir():
        raise VPOGError(f"'{path}' is a folder: give the path of a file.")
    check_output(Path(path).parent)


def output_folder(path: str | Path) -> Path:
    """Return the folder for results, which is made if it is missing.

    Raises:
        VPOGError: it is a file, or cannot be made.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise VPOGError(f"The output folder '{folder}' cannot be made ({reason}): choose another.") from error
    return folder


def write_png(path: Path, image: np.ndarray) -> None:
    """Write an RGB image [H, W, 3] uint8.

    Raises:
        VPOGError: the file cannot be written.
    """
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise VPOGError(f"'{path}' cannot be written ({error.strerror}): choose another --output.") from error


def pose_text(estimate: PoseEstimate) -> str:
    """Format a pose for people: metres, degrees, one standard deviation."""
    if estimate.T_cam_obj is None:
        return f"{estimate.class_id}: no pose. {estimate.reason}"
    T = estimate.T_cam_obj
    x, y, z, w = quaternion_xyzw(T[:3, :3])
    roll, pitch, yaw = np.rad2deg(roll_pitch_yaw(T[:3, :3]))
    lines = [
        f"{estimate.class_id}: score {estimate.score:.2f}, {estimate.inliers} matches agree within "
        f"{estimate.reprojection_error:.1f} px (rms, crop)",
        f"  position     x {T[0, 3]:+.4f}  y {T[1, 3]:+.4f}  z {T[2, 3]:+.4f} m (x right, y down, z forward)",
        f"  orientation  x {x:+.5f}  y {y:+.5f}  z {z:+.5f}  w {w:+.5f}",
        f"               roll {roll:+.1f}  pitch {pitch:+.1f}  yaw {yaw:+.1f} deg (fixed x, y, z axes)",
    ]
    if estimate.covariance is not None:
        sigma = np.sqrt(np.maximum(np.diag(estimate.covariance), 0.0))
        position = "   ".join(
            f"{name} {1e3 * value:.1f}" for name, value in zip("xyz", sigma[:3], strict=True)
        )
        rotation = "   ".join(
            f"{name} {np.rad2deg(value):.1f}" for name, value in zip("xyz", sigma[3:], strict=True)
        )
        lines.append(f"  uncertain by {position} mm;  about {rotation} deg (one standard deviation)")
    return "\n".join(lines)


def roll_pitch_yaw(R: np.ndarray) -> np.ndarray:
    """Compute angles [3] in radians: R = Rz(yaw) Ry(pitch) Rx(roll), as in ROS; roll is 0 if not unique."""
    pitch = np.arctan2(-R[2, 0], np.hypot(R[0, 0], R[1, 0]))
    if np.hypot(R[0, 0], R[1, 0]) < 1e-9:
        return np.array([0.0, pitch, np.arctan2(-R[0, 1], R[1, 1])])
    return np.array([np.arctan2(R[2, 1], R[2, 2]), pitch, np.arctan2(R[1, 0], R[0, 0])])


def pose_dict(estimate: PoseEstimate) -> dict:
    """Format a pose for programs, ready for JSON: metres, radians; null where there is no pose.

    Alternatives and samples are there as far as they were asked for.
    """
    T, covariance = estimate.T_cam_obj, estimate.covariance
    return {
        "class_id": estimate.class_id,
        "instance": estimate.instance,
        "T_cam_obj": None if T is None else T.tolist(),
        "position": None if T is None else T[:3, 3].tolist(),
        "quaternion_xyzw": None if T is None else quaternion_xyzw(T[:3, :3]).tolist(),
        "score": float(estimate.score),
        "covariance": None if covariance is None else covariance.tolist(),
        "inliers": int(estimate.inliers),
        "reprojection_error": float(estimate.reprojection_error),
        "reason": estimate.reason,
        "alternatives": [
            {"T_cam_obj": other.T_cam_obj.tolist(), "score": float(other.score)}
            for other in estimate.alternatives
        ],
        "samples": [] if estimate.samples is None else estimate.samples.tolist(),
    }
