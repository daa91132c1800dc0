"""Draw flat printed designs by seed, as on packages, cans and bottles."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

Rng = np.random.Generator
FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)
SHELF_HUES = (0.0, 0.02, 0.07, 0.12, 0.15, 0.38, 0.55, 0.6, 0.64)
LETTERS = "ABCDEFGHJKLMNPRSTUVXYZabdeghkmnprstuy0123456789&"


def palette(rng: Rng, count: int = 5) -> np.ndarray:
    """Draw [count, 3] uint8 RGB colours that go together as print does: background first, then contrasts."""
    # Draw mostly the reds, yellows and blues of packages, sometimes any hue.
    hue = rng.choice(SHELF_HUES) + rng.normal(0, 0.015) if rng.random() < 0.6 else rng.random()
    colors = []
    for index in range(count):
        h = (hue + (0.0 if index == 0 else rng.choice([0.0, 0.08, 0.33, 0.5, 0.6]))) % 1.0
        style = rng.random()
        if style < 0.55:
            s, v = rng.uniform(0.45, 0.92), rng.uniform(0.4, 0.95)
        elif style < 0.8:
            s, v = rng.uniform(0.0, 0.2), rng.uniform(0.8, 0.98)
        else:
            s, v = rng.uniform(0.0, 0.5), rng.uniform(0.08, 0.35)
        # Dull the greens: printing inks reach less saturated ones than screens.
        if 0.2 < h < 0.45:
            s, v = 0.85 * s, 0.8 * v
        colors.append(colorsys.hsv_to_rgb(h, s, v))
    out = np.round(np.array(colors) * 255)
    if np.abs(out[1] - out[0]).sum() < 200:
        out[1] = 250 if out[0].mean() < 128 else 20
    return out.astype(np.uint8)


def make_print(
    rng: Rng, height: int, width: int, colors: np.ndarray, photo: np.ndarray | None = None, busy: float = 1.0
) -> np.ndarray:
    """Draw a printed panel.

    Args:
        height, width: pixels.
        colors: [C, 3] uint8, C >= 3; the first is that of the background.
        photo: [h, w, 3] uint8, an image to place on the panel.
        busy: about how much there is on it; 1 is a usual package.

    Returns:
        [height, width, 3] uint8.
    """
    # Fill the background.
    image = _ground(rng, height, width, colors)
    # Place the photograph, shapes, words and small print, each over what is there.
    if photo is not None and rng.random() < 0.85:
        _photograph(rng, image, photo)
    for _ in range(rng.poisson(3 * busy)):
        rng.choice([_band, _disc, _star, _ring, _cornered])(rng, image, _pick(rng, colors))
    for _ in range(1 + rng.poisson(1.2 * busy)):
        _word(rng, image, _pick(rng, colors), big=True)
    for _ in range(rng.poisson(1.5 * busy)):
        rng.choice([_paragraph, _barcode, _table, _dots])(rng, image, _pick(rng, colors))
    return image


def _pick(rng: Rng, colors: np.ndarray) -> tuple[int, int, int]:
    return tuple(int(c) for c in colors[rng.integers(1, len(colors))])


def _ground(rng: Rng, h: int, w: int, colors: np.ndarray) -> np.ndarray:
    image = np.empty((h, w, 3), dtype=np.uint8)
    image[:] = colors[0]
    style = rng.random()
    if style < 0.3:
        end = colors[rng.integers(1, len(colors))].astype(np.float32)
        ramp = np.linspace(0, 1, h, dtype=np.float32)[:, None, None] ** rng.uniform(0.5, 2)
        image[:] = np.round(image * (1 - ramp) + end * ramp)
    elif style < 0.5:
        split = rng.integers(h // 5, 4 * h // 5)
        y = split + rng.uniform(-0.3, 0.3) * h * np.sin(np.arange(w) / w * rng.uniform(1, 6.3))
        image[np.arange(h)[:, None] > y[None]] = colors[1]
    elif style < 0.6:
        step = max(4, int(rng.uniform(0.06, 0.2) * w))
        slant = rng.uniform(-1, 1)
        stripe = ((np.arange(w)[None] + slant * np.arange(h)[:, None]) // step).astype(int) % 2 == 0
        image[stripe] = colors[1]
    return image


def _place(rng: Rng, image: np.ndarray) -> tuple[int, int]:
    h, w = image.shape[:2]
    return int(rng.uniform(0.05, 0.95) * w), int(rng.uniform(0.05, 0.95) * h)


def _photograph(rng: Rng, image: np.ndarray, photo: np.ndarray) -> None:
    h, w = image.shape[:2]
    ph, pw = int(rng.uniform(0.35, 0.9) * h), int(rng.uniform(0.5, 1.0) * w)
    y, x = int(rng.integers(0, h - ph + 1)), int(rng.integers(0, w - pw + 1))
    crop = min(photo.shape[0] / ph, photo.shape[1] / pw) * rng.uniform(0.6, 1.0)
    ch, cw = max(2, int(ph * crop)), max(2, int(pw * crop))
    top = int(rng.integers(0, photo.shape[0] - ch + 1))
    left = int(rng.integers(0, photo.shape[1] - cw + 1))
    piece = cv2.resize(photo[top : top + ch, left : left + cw], (pw, ph), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.4:
        cut = np.zeros((ph, pw), dtype=np.uint8)
        cv2.ellipse(cut, (pw // 2, ph // 2), (pw // 2, ph // 2), 0, 0, 360, 255, -1)
        image[y : y + ph, x : x + pw][cut > 0] = piece[cut > 0]
    else:
        image[y : y + ph, x : x + pw] = piece


def _band(rng: Rng, image: np.ndarray, color) -> None:
    h, w = image.shape[:2]
    y, thick = rng.uniform(0, h), rng.uniform(0.03, 0.25) * h
    tilt = rng.choice([0.0, rng.uniform(-0.5, 0.5)]) * w
    corners = np.array([[0, y], [w, y + tilt], [w, y + tilt + thick], [0, y + thick]])
    cv2.fillPoly(image, [corners.round().astype(np.int32)], color, cv2.LINE_AA)


def _disc(rng: Rng, image: np.ndarray, color) -> None:
    size = rng.uniform(0.06, 0.35, 2) * min(image.shape[:2]) * rng.uniform(0.7, 1.5)
    axes = (int(size[0]) + 2, int(size[1]) + 2)
    cv2.ellipse(image, _place(rng, image), axes, rng.uniform(0, 180), 0, 360, color, -1, cv2.LINE_AA)


def _ring(rng: Rng, image: np.ndarray, color) -> None:
    radius = int(rng.uniform(0.08, 0.35) * min(image.shape[:2])) + 2
    cv2.circle(
        image, _place(rng, image), radius, color, max(2, int(radius * rng.uniform(0.1, 0.4))), cv2.LINE_AA
    )


def _star(rng: Rng, image: np.ndarray, color) -> None:
    count = int(rng.integers(3, 9))
    radius = rng.uniform(0.08, 0.3) * min(image.shape[:2])
    angle = np.arange(2 * count) * np.pi / count + rng.uniform(0, 6.3)
    reach = radius * np.where(np.arange(2 * count) % 2, rng.uniform(0.4, 1), 1)
    corners = np.array(_place(rng, image)) + np.stack([np.cos(angle), np.sin(angle)], axis=1) * reach[:, None]
    cv2.fillPoly(image, [corners.round().astype(np.int32)], color, cv2.LINE_AA)


def _cornered(rng: Rng, image: np.ndarray, color) -> None:
    h, w = image.shape[:2]
    x, y = _place(rng, image)
    size = (int(rng.uniform(0.1, 0.5) * w), int(rng.uniform(0.05, 0.35) * h))
    cv2.rectangle(
        image, (x - size[0] // 2, y - size[1] // 2), (x + size[0] // 2, y + size[1] // 2), color, -1
    )


def _word(rng: Rng, image: np.ndarray, color, big: bool) -> None:
    h, w = image.shape[:2]
    text = "".join(rng.choice(list(LETTERS), int(rng.integers(2, 8))))
    text = text.upper() if rng.random() < 0.5 else text
    font = int(rng.choice(FONTS))
    thick = max(1, int(h * rng.uniform(0.008, 0.02)))
    (tw, th), _ = cv2.getTextSize(text, font, 1.0, thick)
    scale = min(rng.uniform(0.5, 0.95) * w / max(tw, 1), rng.uniform(0.12, 0.4) * h / max(th, 1))
    x = int(rng.uniform(0.0, max(0.02, 1 - scale * tw / w)) * w)
    y = int(rng.uniform(scale * th / h, 1.0) * h * 0.97)
    if rng.random() < 0.35:
        outline = 255 if sum(color) < 380 else 0
        cv2.putText(image, text, (x, y), font, scale, (outline,) * 3, thick * 3, cv2.LINE_AA)
    cv2.putText(image, text, (x, y), font, scale, color, thick * int(rng.integers(1, 3)), cv2.LINE_AA)


def _paragraph(rng: Rng, image: np.ndarray, color) -> None:
    h, w = image.shape[:2]
    x, y = int(rng.uniform(0.02, 0.5) * w), int(rng.uniform(0.05, 0.8) * h)
    line = max(3, int(h * rng.uniform(0.025, 0.05)))
    for row in range(int(rng.integers(3, 9))):
        at = x
        end = x + rng.uniform(0.3, 0.5) * w
        while at < end:
            long = int(rng.uniform(1, 5) * line)
            cv2.line(
                image, (at, y + 2 * row * line), (at + long, y + 2 * row * line), color, max(1, line // 2)
            )
            at += long + line
    if rng.random() < 0.3:
        cv2.rectangle(image, (x - line, y - line), (x + w // 2, y + 12 * line), color, 1)


def _barcode(rng: Rng, image: np.ndarray, color) -> None:
    h, w = image.shape[:2]
    x, y = int(rng.uniform(0.05, 0.6) * w), int(rng.uniform(0.05, 0.7) * h)
    bw, bh = int(rng.uniform(0.25, 0.4) * w), int(rng.uniform(0.1, 0.22) * h)
    cv2.rectangle(image, (x, y), (x + bw, y + bh), (250, 250, 250), -1)
    at = x + 2
    while at < x + bw - 3:
        bar = int(rng.integers(1, 4)) * max(1, w // 128)
        cv2.rectangle(image, (at, y + 2), (at + bar - 1, y + bh - 2), (15, 15, 15), -1)
        at += bar + int(rng.integers(1, 4)) * max(1, w // 128)


def _table(rng: Rng, image: np.ndarray, color) -> None:
    h, w = image.shape[:2]
    x, y = int(rng.uniform(0.03, 0.5) * w), int(rng.uniform(0.03, 0.5) * h)
    tw, step = int(rng.uniform(0.25, 0.45) * w), max(4, int(0.045 * h))
    rows = int(rng.integers(4, 9))
    cv2.rectangle(image, (x, y), (x + tw, y + rows * step), (248, 248, 244), -1)
    cv2.rectangle(image, (x, y), (x + tw, y + rows * step), (20, 20, 20), 1)
    for row in range(rows):
        level = y + row * step + step // 2
        cv2.line(
            image,
            (x + 3, level),
            (x + int(rng.uniform(0.3, 0.6) * tw), level),
            (20, 20, 20),
            max(1, step // 4),
        )
        cv2.line(image, (x + int(0.8 * tw), level), (x + tw - 3, level), (20, 20, 20), max(1, step // 4))


def _dots(rng: Rng, image: np.ndarray, color) -> None:
    x, y = _place(rng, image)
    step = max(5, int(rng.uniform(0.05, 0.12) * min(image.shape[:2])))
    for row in range(int(rng.integers(2, 6))):
        for column in range(int(rng.integers(2, 7))):
            cv2.circle(image, (x + column * step, y + row * step), max(1, step // 3), color, -1, cv2.LINE_AA)
