"""Compose a training query: an object among others under random light, cropped as by a detector."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from vpog_core.geometry.camera import VirtualCamera
from vpog_core.geometry.pinhole import image_rays
from vpog_core.geometry.se3 import rotation_z
from vpog_core.geometry.vectors import unit
from vpog_core.objects.lighting import Illumination, Light, Material
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.scene_renderer import render_scene
from vpog_core.training.synthesis.query_layout import Layout, LayoutParams, lay_out

WALL_DISTANCE = 6.0
"""The ground ends this many diameters behind the object."""

HIGHLIGHT_LEVEL = 190.0
"""Grey level from which a camera compresses what is brighter."""


@dataclass(frozen=True)
class QueryParams:
    """Declares probabilities and ranges of the effects in a query.

    Attributes:
        layout: of the objects, the box and the border.
        environment: light comes from an environment map, where there are some.
        shadow: the key light casts shadows; occlusion: corners are darker.
        specular: lamps have highlights; gloss: the surface mirrors its surroundings; metal: it mostly does.
        sprites: flat cut-outs of other objects' templates behind the object, at most.
        blurred_background: the camera is focused on the object.
        moved_outline: the object looks larger or smaller than its mesh by up to a pixel of the crop, as
            lenses, bright surfaces and inexact meshes make it; what is printed on it stays in its place.
    """

    layout: LayoutParams = field(default_factory=LayoutParams)
    environment: float = 0.5
    shadow: float = 0.6
    occlusion: float = 0.6
    specular: float = 0.4
    gloss: float = 0.3
    metal: float = 0.06
    sprites: int = 2
    blurred_background: float = 0.2
    moved_outline: float = 0.6


@dataclass
class Query:
    """Holds a crop with its ground truth; P is its side.

    Attributes:
        rgb: [P, P, 3] uint8; depth: [P, P] float32, 0 where the object is not visible.
        K: [3, 3]; T_virt_obj: [4, 4], of the crop's virtual camera.
        outside: [P, P] bool, beyond the border of the camera's image. There the colours are those of the
            scene, so that lens and file effects bring no black edge into the image; black comes after them.
    """

    rgb: np.ndarray
    depth: np.ndarray
    K: np.ndarray
    T_virt_obj: np.ndarray
    outside: np.ndarray


@dataclass
class Sprite:
    """Holds a cut-out image: rgb [h, w, 3] uint8 and alpha [h, w] uint8 (0 or 255)."""

    rgb: np.ndarray
    alpha: np.ndarray

    def placed(self, matrix: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Warp by a homography [3, 3]: rgb [size, size, 3] and alpha [size, size, 1] in 0..1."""
        rgb = cv2.warpPerspective(self.rgb, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
        alpha = cv2.warpPerspective(self.alpha, matrix, (size, size))
        return rgb, alpha[..., None].astype(np.float32) / 255.0


def similarity(scale: float, angle: float, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return 3x3 matrix that scales, turns (x towards y) and takes the pixel `source` [2] to `target` [2]."""
    A = scale * rotation_z(angle)[:2, :2]
    return np.block([[A, (np.asarray(target) - A @ np.asarray(source))[:, None]], [0.0, 0.0, 1.0]])


def compose(
    rng: np.random.Generator,
    renderer: Renderer,
    T: np.ndarray,
    size: int,
    assets,
    params: QueryParams | None = None,
    frame: VirtualCamera | None = None,
) -> Query:
    """Render an object in a scene, and crop the image as by a detector, or to `frame`.

    Args:
        T: [4, 4] object in a camera that is upright in the image and sees it.
        size: side of the crop, pixels.
        assets: a `SceneAssets`, or what has its methods.
        frame: the crop's camera, where it is known; None: it looks at a detector's box.
    """
    params = QueryParams() if params is None else params
    # Draw the geometry, and express it in the crop's camera.
    layout = lay_out(rng, renderer, T, assets, params.layout)
    layout, K = layout.in_crop(size) if frame is None else (layout.turned(frame.R_virt_cam), frame.K)
    for obj in layout.objects:
        obj.material = random_material(rng, params)
    # Render the scene before its background.
    canvas = background(rng, layout, K, size, assets, params)
    light = random_illumination(rng, layout.up, assets.environment(rng), params)
    image = render_scene(rng, layout.objects, K, (size, size), canvas, light, layout.ground)
    # Finish it as a camera would.
    rgb, own = _smooth_edges(_compress_highlights(image.rgb), image.instance_map), image.instance_map == 0
    if rng.random() < params.moved_outline:
        rgb = _moved_outline(rng, rgb, own)
    # Put flat occluders in front, and leave out what lies beyond the image's border.
    if layout.cut_out is not None:
        flat, alpha = layout.cut_out.placed(K, size)
        rgb += alpha * (flat * rng.uniform(0.6, 1.2) - rgb)
        own = own & (alpha[..., 0] < 0.5)
    depth = np.where(own, image.depth, 0).astype(np.float32)
    outside = np.zeros((size, size), bool)
    if layout.border is not None:
        outside = image_rays(K, (size, size)).astype(np.float32) @ layout.border.astype(np.float32) > 0
        depth[outside] = 0
    return Query(rgb.clip(0, 255).astype(np.uint8), depth, K, layout.objects[0].T_cam_obj, outside)


def random_material(rng: np.random.Generator, params: QueryParams) -> Material:
    """Draw a material: mostly dull, some with highlights, some that mirror, few of metal."""
    return Material(
        specular=float(rng.uniform(0, 0.5)) if rng.random() < params.specular else 0.0,
        shininess=float(np.exp(rng.uniform(np.log(5), np.log(80)))),
        gloss=float(rng.uniform(0.2, 0.9)) if rng.random() < params.gloss else 0.0,
        metal=float(rng.uniform(0.2, 0.6)) if rng.random() < params.metal else 0.0,
    )


def random_illumination(
    rng: np.random.Generator, up: np.ndarray, environment, params: QueryParams
) -> Illumination:
    """Draw one to three lamps, mostly white and from above and before, and a room or even light around.

    Args:
        up: [3] unit, camera frame, against gravity; environment: an `Environment`, or None.
    """
    if environment is not None and rng.random() >= params.environment:
        environment = None
    count = int(rng.integers(1, 4))
    ambient = rng.uniform(0.25, 0.75)
    strength = rng.uniform(0.3, 1.0) * np.sort(rng.dirichlet(np.ones(count)))[::-1]
    lights = [
        Light(
            ambient=ambient / count,
            direction=tuple(rng.normal(0, 1, 3) + 0.7 * up + np.array([0, 0, -0.6])),
            diffuse=float(strength[i]),
            color=tuple(1 + rng.normal(0, 0.08, 3)),
        )
        for i in range(count)
    ]
    side = unit(np.cross(up, rng.normal(size=3)))
    return Illumination(
        lights,
        environment=environment,
        R_env_cam=np.stack([side, up, np.cross(side, up)]),
        shadow=bool(rng.random() < params.shadow),
        softness=float(np.exp(rng.uniform(np.log(0.01), np.log(0.3)))),
        occlusion=float(rng.uniform(0.3, 0.9)) if rng.random() < params.occlusion else 0.0,
    )


def background(
    rng: np.random.Generator, layout: Layout, K: np.ndarray, size: int, assets, params: QueryParams
) -> np.ndarray:
    """Make [size, size, 3] uint8: a photograph or a made-up surface, the ground, flat clutter."""
    canvas = assets.background(rng, size)
    if layout.ground is not None:
        _draw_ground(rng, canvas, layout, K, assets.background(rng, 3 * size // 2))
    else:
        for _ in range(rng.integers(0, params.sprites + 1)):
            centre, angle = rng.uniform(0, size, 2), rng.uniform(-np.pi, np.pi)
            sprite = assets.sprite(rng)
            matrix = similarity(
                rng.uniform(0.4, 1.2) * size / len(sprite.rgb), angle, _middle(sprite), centre
            )
            rgb, alpha = sprite.placed(matrix, size)
            canvas = (canvas + alpha * (rgb * rng.uniform(0.5, 1.2) - canvas)).clip(0, 255).astype(np.uint8)
    if rng.random() < params.blurred_background:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.5, 3.0) * size / 112)
    return canvas


def _draw_ground(rng, canvas: np.ndarray, layout: Layout, K: np.ndarray, texture: np.ndarray) -> None:
    """Lay a texture on the ground as the camera sees it, up to where the ground ends."""
    ground, target = layout.ground, layout.objects[0]
    size = target.renderer.mesh.diameter
    depth = ground.depth(image_rays(K, canvas.shape[:2]).astype(np.float32))
    near = (depth < target.T_cam_obj[2, 3] + WALL_DISTANCE * size).astype(np.uint8)
    first = unit(np.cross(ground.normal, rng.normal(size=3)))
    axes = np.stack([first, np.cross(ground.normal, first)])
    # The texture's side covers 1.5 to 5 diameters; beyond, it is mirrored. A ray r meets the ground at
    # r * offset / (normal @ r), so pixels go to texels by a homography.
    texels = len(texture) / (rng.uniform(1.5, 5.0) * size) * ground.offset * axes
    texels += rng.uniform(0, len(texture), (2, 1)) * ground.normal
    to_texture = np.vstack([texels, ground.normal]) @ np.linalg.inv(K)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpPerspective(
        texture, to_texture, canvas.shape[1::-1], flags=flags, borderMode=cv2.BORDER_REFLECT
    )
    cv2.copyTo(laid, near, canvas)


def _compress_highlights(rgb: np.ndarray) -> np.ndarray:
    """Compress bright colours in place of clipping them, as cameras do."""
    bright = rgb > HIGHLIGHT_LEVEL
    room = 255.0 - HIGHLIGHT_LEVEL
    rgb[bright] = 255.0 - room * np.exp((HIGHLIGHT_LEVEL - rgb[bright]) / room)
    return rgb


def _smooth_edges(rgb: np.ndarray, instance_map: np.ndarray) -> np.ndarray:
    """Smooth the pixels at the edges of objects, which one ray for each pixel leaves jagged."""
    rim = (
        cv2.morphologyEx((instance_map + 1).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        > 0
    )
    rgb[rim] = cv2.GaussianBlur(rgb, (3, 3), 0.7)[rim]
    return rgb


def _moved_outline(rng: np.random.Generator, rgb: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Move the object's outline by up to one pixel: spread its colours outwards, or those around it inwards.

    Args:
        rgb: [P, P, 3] float32; own: [P, P] bool, where the object is seen.
    """
    spreads = own if rng.random() < 0.5 else ~own
    weight = spreads.astype(np.float32)
    fraction = cv2.blur(weight, (3, 3))
    reached = ~spreads & (fraction > 0)
    near = cv2.blur(rgb * weight[..., None], (3, 3))[reached] / fraction[reached][:, None]
    moved = rgb.copy()
    moved[reached] += rng.uniform() * (near - rgb[reached])
    return moved


def _middle(sprite: Sprite) -> np.ndarray:
    return (np.array(sprite.alpha.shape[::-1]) - 1) / 2
