"""Show images in a window, and read its mouse and keyboard."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Protocol

import cv2
import numpy as np

from vpog_core.types import VPOGError
from vpog_ros.click.boxes import KeyEvent, Mouse, MouseEvent

MAX_WIDTH, MAX_HEIGHT = 1280, 800
"""Larger images are shown smaller, so that the window fits on a screen."""

ESCAPE = "\x1b"

NO_WINDOWS = (
    "This OpenCV cannot open windows (opencv-python-headless has none): run `pip uninstall "
    "opencv-python-headless`, then `pip install opencv-python`, or use Ubuntu's python3-opencv."
)
NO_DISPLAY = "There is no display (DISPLAY and WAYLAND_DISPLAY are not set): start vpog_click on a desktop."


class Window(Protocol):
    """Declares what `vpog_click` needs of a window."""

    def show(self, image: np.ndarray) -> None:
        """Show an image [H, W, 3] uint8 RGB."""

    def events(self) -> list[MouseEvent | KeyEvent]:
        """Return what has happened since the last call, in pixels of the image shown."""

    def close(self) -> None:
        """Close the window."""


def why_no_window(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> str:
    """Return the sentence on why OpenCV cannot open a window here, and what to do; "" if it can."""
    gui = [line.split(":")[1].strip() for line in cv2.getBuildInformation().splitlines() if "GUI:" in line]
    if not gui or gui[0] == "NONE":
        return NO_WINDOWS
    # Qt ends the process if there is no display, so check for one first.
    if platform.startswith("linux") and not (
        environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY")
    ):
        return NO_DISPLAY
    return ""


class OpenCvWindow:
    """Implements a window with OpenCV; to be used in the process's main thread.

    Raises:
        VPOGError: none can be opened.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._scale = 1.0
        self._events: list[MouseEvent | KeyEvent] = []
        try:
            cv2.namedWindow(title, cv2.WINDOW_AUTOSIZE | cv2.WINDOW_GUI_NORMAL)
            cv2.setMouseCallback(title, self._on_mouse)
        except cv2.error as error:
            raise VPOGError(f"OpenCV cannot open a window ({' '.join(str(error).split())}).") from error

    def show(self, image: np.ndarray) -> None:
        """Show an image [H, W, 3] uint8 RGB, smaller where it is larger than a screen."""
        height, width = image.shape[:2]
        self._scale = min(1.0, MAX_WIDTH / width, MAX_HEIGHT / height)
        if self._scale < 1.0:
            size = (round(width * self._scale), round(height * self._scale))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        cv2.imshow(self._title, image[..., ::-1])

    def events(self) -> list[MouseEvent | KeyEvent]:
        """Return what has happened since the last call; waits for some milliseconds."""
        key = cv2.waitKey(10) & 0xFF
        if cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1:
            self._events.append(KeyEvent(ESCAPE))
        elif key != 0xFF:
            self._events.append(KeyEvent(chr(key)))
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()

    def _on_mouse(self, event: int, x: int, y: int, *_) -> None:
        kinds = {
            cv2.EVENT_LBUTTONDOWN: Mouse.PRESS,
            cv2.EVENT_LBUTTONUP: Mouse.RELEASE,
            cv2.EVENT_MOUSEMOVE: Mouse.MOVE,
        }
        if event in kinds:
            # Pixel centres lie at integers in the image and in the window.
            x, y = ((value + 0.5) / self._scale - 0.5 for value in (x, y))
            self._events.append(MouseEvent(kinds[event], x, y))


def open_window() -> Window:
    """Open a window for `vpog_click`.

    Raises:
        VPOGError: there can be none here.
    """
    if reason := why_no_window():
        raise VPOGError(reason)
    return OpenCvWindow("vpog_click")
