"""Compute with rotations and rigid transforms as batched, differentiable tensors; `se3` is for arrays.

Quaternions are (x, y, z, w).
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotation_of_quaternion(q: Tensor) -> Tensor:
    """Compute rotations [..., 3, 3] of unit quaternions [..., 4]."""
    x, y, z, w = q.unbind(dim=-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def quaternion_of_rotation(R: Tensor) -> Tensor:
    """Compute unit quaternions [..., 4] of rotations [..., 3, 3], either sign; not differentiable.

    The eigenvector of the largest eigenvalue of Bar-Itzhack's matrix (2000): exact for every rotation.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(dim=-1) for row in R.detach().unbind(dim=-2))
    rows = (
        (xx - yy - zz, xy + yx, xz + zx, zy - yz),
        (xy + yx, yy - xx - zz, yz + zy, xz - zx),
        (xz + zx, yz + zy, zz - xx - yy, yx - xy),
        (zy - yz, xz - zx, yx - xy, xx + yy + zz),
    )
    return torch.linalg.eigh(torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2))[1][..., -1]


def rotation_exp(vector: Tensor) -> Tensor:
    """Compute rotations [..., 3, 3] of vectors [..., 3] (axis times radians), differentiable at zero.

    Rodrigues' formula.
    """
    angle = (vector.square().sum(dim=-1) + 1e-20).sqrt()[..., None, None]
    half = angle / 2
    K = skew(vector)
    return identity_like(3, vector) + (angle.sin() / angle) * K + (half.sin() / half).square() / 2 * (K @ K)


def skew(vector: Tensor) -> Tensor:
    """Compute the matrices [..., 3, 3] of cross products with vectors [..., 3] from the left."""
    x, y, z = vector.unbind(dim=-1)
    zero = torch.zeros_like(x)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).unflatten(-1, (3, 3))


def rotation_log(R: Tensor) -> Tensor:
    """Compute rotation vectors [..., 3], radians up to pi, of rotations [..., 3, 3]; not differentiable."""
    q = quaternion_of_rotation(R)
    q = torch.where(q[..., 3:] < 0, -q, q)
    sine = q[..., :3].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, q[..., 3:])
    return torch.where(sine > 1e-12, q[..., :3] / sine.clamp_min(1e-12) * angle, 2 * q[..., :3])


def identity_like(size: int, like: Tensor) -> Tensor:
    """Make an identity matrix [size, size] of the type and on the device of another tensor."""
    return torch.eye(size, dtype=like.dtype, device=like.device)


def rigid(R: Tensor, t: Tensor) -> Tensor:
    """Make transforms [..., 4, 4] of rotations [..., 3, 3] and translations [..., 3]."""
    last = identity_like(4, t)[3:].expand(*t.shape[:-1], 1, 4)
    return torch.cat((torch.cat((R, t[..., None]), dim=-1), last), dim=-2)


def moved(T: Tensor, step: Tensor) -> Tensor:
    """Move poses T_cam_obj [..., 4, 4] by steps [..., 6]: the object's origin by the first three numbers
    (metres), its orientation by the last three, a rotation vector about the camera's axes."""
    return rigid(rotation_exp(step[..., 3:]) @ T[..., :3, :3], T[..., :3, 3] + step[..., :3])
