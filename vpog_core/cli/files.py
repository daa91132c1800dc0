"""What the command line reads and writes: cameras, images, masks, meshes, poses."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import yaml

from vpog_core.geometry.se3 import quaternion_xyzw
from vpog_core.types import Camera, PoseEstimate, VPOGError


def read_image(path: str | Path) -> np.ndarray:
    """An image file as RGB [H, W, 3] uint8.

    Raises:
        VPOGError: missing, or not an image.
    """
    image = cv2.imread(str(_existing(path, "image")), cv2.IMREAD_COLOR)
    if image is None:
        raise VPOGError(f"The image '{path}' cannot be read: give a PNG or JPEG file.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_mask(path: str | Path, size: tuple[int, int]) -> np.ndarray:
    """A mask file as [H, W] bool: True where it is not black.

    Args:
        size: (height, width) it must have.

    Raises:
        VPOGError: missing, not an image, of another size, or all black.
    """
    mask = cv2.imread(str(_existing(path, "mask")), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise VPOGError(f"The mask '{path}' cannot be read: give a PNG file, black outside the object.")
    if mask.shape != tuple(size):
        raise VPOGError(
            f"The mask '{path}' is {mask.shape[1]}x{mask.shape[0]} but the image {size[1]}x{size[0]}: "
            "give a mask of the image's size."
        )
    if not mask.any():
        raise VPOGError(f"The mask '{path}' is all black: paint the object white.")
    return mask > 0


def mask_box(mask: np.ndarray) -> np.ndarray:
    """Box [4] (x0, y0, x1, y1) around the True pixels of a mask [H, W], x1 and y1 one past the last."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float64)


def read_camera(path: str | Path, image_size: tuple[int, int]) -> Camera:
    """A camera from a YAML or JSON file.

    Understood: ROS calibration files (`camera_matrix`, `image_width`, ...), a printed `CameraInfo` message
    (`k`, `d`, `width`, ...), and plain `fx, fy, cx, cy` with, where needed, `width`, `height`, `distortion`
    and `distortion_model`. A file without a size takes the image's.

    Args:
        image_size: (height, width) of the image the camera is for.

    Raises:
        VPOGError: missing, not YAML or JSON, numbers missing or impossible, or made for another image size.
    """
    data = _read_mapping(path)
    height, width = image_size
    camera = Camera(
        K=_intrinsics(data, path),
        width=_integer(data, ("image_width", "width"), width, path),
        height=_integer(data, ("image_height", "height"), height, path),
        distortion=_distortion(data, path),
        model=_model(data, path),
    )
    if (camera.height, camera.width) != (height, width):
        raise VPOGError(
            f"The camera file '{path}' is for {camera.width}x{camera.height} images, this one is "
            f"{width}x{height}: give the image as the camera took it."
        )
    return camera


def _read_mapping(path) -> Mapping:
    text = _existing(path, "camera file").read_bytes()
    try:
        data = next(iter(yaml.safe_load_all(text.decode("utf-8"))), None)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise VPOGError(
            f"The camera file '{path}' is neither YAML nor JSON: {_first_line(error)}."
        ) from error
    if not isinstance(data, Mapping):
        raise VPOGError(f"The camera file '{path}' holds no names with values: give fx, fy, cx and cy.")
    return data


def _intrinsics(data: Mapping, path) -> np.ndarray:
    for key in ("camera_matrix", "k", "K", "cam_K"):
        if key in data:
            return _numbers(data[key], key, path, 9).reshape(3, 3)
    missing = [key for key in ("fx", "fy", "cx", "cy") if key not in data]
    if missing:
        raise VPOGError(
            f"The camera file '{path}' has no {missing[0]}: give fx, fy, cx and cy, or a ROS camera_matrix."
        )
    fx, fy, cx, cy = (float(_numbers(data[key], key, path, 1)[0]) for key in ("fx", "fy", "cx", "cy"))
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def _distortion(data: Mapping, path) -> np.ndarray:
    for key in ("distortion_coefficients", "distortion", "d", "D"):
        if data.get(key) is not None:
            return _numbers(data[key], key, path)
    return np.zeros(0)


def _model(data: Mapping, path) -> str:
    name = data.get("distortion_model") or data.get("model")
    if name:
        return {"fisheye": "equidistant"}.get(str(name), str(name))
    return "rational_polynomial" if _distortion(data, path).size > 5 else "plumb_bob"


def _numbers(value, key, path, count: int | None = None) -> np.ndarray:
    if isinstance(value, Mapping):
        value = value.get("data")
    try:
        numbers = np.asarray(value, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        numbers = np.full(1, np.nan)
    if not np.isfinite(numbers).all() or (count is not None and numbers.size != count):
        amount = "numbers" if count is None else "a number" if count == 1 else f"{count} numbers"
        raise VPOGError(f"In the camera file '{path}', {key} must be {amount}, but is {str(value)[:60]}.")
    return numbers


def _integer(data: Mapping, keys, default: int, path) -> int:
    for key in keys:
        if key in data:
            value = float(_numbers(data[key], key, path, 1)[0])
            if value != int(value):
                raise VPOGError(
                    f"In the camera file '{path}', {key} must be a whole number, but is {value:g}."
                )
            return int(value)
    return default


def _existing(path, what: str) -> Path:
    path = Path(path)
    if not path.is_file():
        raise VPOGError(f"There is no {what} '{path}': check the path.")
    return path


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".:") if str(error).strip() else type(error).__name__


def stage_mesh(path: str | Path, unit: str, folder: Path) -> str:
    """Copy one mesh, in metres, into an empty folder that serves as object library; returns its id there.

    Raises:
        VPOGError: the mesh cannot be used, see `load_mesh`.
    """
    from vpog_core.objects.mesh import load_mesh, save_mesh

    mesh = load_mesh(path, unit)
    say_notes(mesh)
    textured = mesh.uv is not None and mesh.texture is not None
    object_id = Path(path).stem
    save_mesh(mesh, folder / f"{object_id}{'.glb' if textured else '.ply'}")
    return object_id


def say_notes(mesh) -> None:
    """Print on stderr what a mesh's file holds and was left out, and what is doubtful about it."""
    for note in mesh.notes:
        print(f"vpog: {note}", file=sys.stderr)


def onboard_with_progress(estimator, object_id: str | None = None) -> None:
    """Onboard one object of an estimator, or all, with a progress bar on stderr for what takes long."""
    from tqdm import tqdm

    bars: dict[str, tqdm] = {}

    def progress(done: int, total: int, name: str) -> None:
        if name not in bars:
            bars[name] = tqdm(total=total, desc=f"onboarding {name}", unit="view", delay=1.0, file=sys.stderr)
        bars[name].update(done - bars[name].n)

    try:
        estimator.onboard(object_id, progress=progress)
    finally:
        for bar in bars.values():
            bar.close()


def check_output(path: str | Path) -> None:
    """Refuse, before any work, a folder for results that cannot be one (VPOGError); changes nothing."""
    folder = Path(path)
    blocking = next((part for part in (folder, *folder.parents) if part.exists()), None)
    if blocking is not None and not blocking.is_dir():
        raise VPOGError(
            f"The output folder '{folder}' cannot be made, '{blocking}' is a file: choose another."
        )


def output_folder(path: str | Path) -> Path:
    """The folder for results, made where it is missing.

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
    """A pose for people: metres, degrees, one standard deviation."""
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
    """Angles [3] in radians with R = Rz(yaw) Ry(pitch) Rx(roll), as in ROS; roll is 0 where not unique."""
    pitch = np.arctan2(-R[2, 0], np.hypot(R[0, 0], R[1, 0]))
    if np.hypot(R[0, 0], R[1, 0]) < 1e-9:
        return np.array([0.0, pitch, np.arctan2(-R[0, 1], R[1, 1])])
    return np.array([np.arctan2(R[2, 1], R[2, 2]), pitch, np.arctan2(R[1, 0], R[0, 0])])


def pose_dict(estimate: PoseEstimate) -> dict:
    """A pose for programs, ready for JSON: metres, radians; null where there is no pose."""
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
    }
