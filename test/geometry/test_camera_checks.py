"""Test calibrations that fit their image, that are unlikely to, and that cannot."""

import numpy as np
import pytest

from vpog_core.geometry.camera_checks import camera_doubts, check_camera, field_of_view_deg
from vpog_core.types import Camera, Region, VPOGError


def camera(fx=600.0, fy=600.0, cx=319.5, cy=239.5, size=(640, 480), **fields) -> Camera:
    return Camera([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], *size, **fields)


USUAL = [
    camera(),
    camera(cx=288.0, cy=268.0),  # a consumer camera whose principal point is 5 % off
    camera(1067, 1067, 313, 241),
    camera(200, 200, distortion=[0.1, 0.02, 0, 0], model="equidistant"),  # a fisheye lens of 183 degrees
    camera(distortion=[-0.35, 0.15, 0.001, -0.001, -0.03]),
    # A small part of a whole image, near its corner: the principal point is far outside of the part.
    camera(cx=-200.0, cy=-100.0, size=(100, 80), region=Region(520, 340, 640, 480)),
]


@pytest.mark.parametrize("usual", USUAL)
def test_usual_cameras_pass_without_a_word(usual):
    check_camera(usual)
    assert camera_doubts(usual) == []


@pytest.mark.parametrize("scale", [0.25, 1 / 3, 0.5, 2 / 3, 0.75, 0.8, 1.25, 1.5])
@pytest.mark.parametrize("size", [(640, 480), (1920, 1080)])
def test_k_of_another_resolution_is_doubted_and_the_resolution_named(scale, size):
    of_another = camera(600, 600, scale * size[0] / 2, scale * size[1] / 2, size)
    check_camera(of_another)
    (sentence,) = camera_doubts(of_another)
    named = f"is K for another resolution ({scale * size[0]:.0f}x{scale * size[1]:.0f})?"
    assert f"is far from the middle of the {size[0]}x{size[1]} image" in sentence
    assert named in sentence


@pytest.mark.parametrize(
    ("size", "of_another"),
    [
        ((640, 480), (640, 360)),
        ((1280, 720), (1280, 960)),
        ((1440, 1080), (1920, 1080)),
    ],
)
def test_k_of_another_aspect_ratio_is_doubted(size, of_another):
    (sentence,) = camera_doubts(camera(700, 700, of_another[0] / 2, of_another[1] / 2, size))
    assert f"is K for another resolution ({of_another[0]}x{of_another[1]})?" in sentence


def test_a_resolution_that_cannot_be_told_is_not_named():
    (sentence,) = camera_doubts(camera(cx=320, cy=240, size=(800, 800)))
    assert "far from the middle of the 800x800 image: is K for another resolution? Give K" in sentence


@pytest.mark.parametrize("scale", [2, 3, 5])
def test_a_principal_point_outside_of_the_image_is_refused(scale):
    of_another = camera(cx=320 * scale, cy=240 * scale)
    with pytest.raises(
        VPOGError, match=rf"\({320 * scale}, {240 * scale}\) lies outside of the 640x480 image"
    ):
        check_camera(of_another)


def test_a_region_of_an_image_is_judged_by_the_whole():
    region = Region(320, 240, 1280, 960)
    assert camera_doubts(camera(cx=319.5, cy=239.5, region=region)) == []
    # K was moved to the region already, and is moved a second time.
    (sentence,) = camera_doubts(camera(cx=-0.5, cy=-0.5, region=region))
    assert "(319.5, 239.5) is far from the middle of the 1280x960 image" in sentence


@pytest.mark.parametrize(("focal", "degrees"), [(4.0, "179"), (9000.0, "4.07"), (1e6, "0.0367")])
def test_a_field_of_view_that_no_camera_has_is_refused(focal, degrees):
    with pytest.raises(VPOGError, match=f"spans {degrees} degrees.*focal length in pixels"):
        check_camera(camera(focal, focal))


def test_field_of_view_known_values():
    assert field_of_view_deg(camera(320, 320)) == pytest.approx(90)
    assert field_of_view_deg(camera(640 / np.pi, 640 / np.pi, model="equidistant")) == pytest.approx(180)


def test_numbers_of_k_in_another_order_are_doubted():
    (sentence,) = camera_doubts(camera(600, 319.5, 300, 239.5))
    assert "fx 600 and fy 319.5 differ by a factor of 1.88" in sentence


def test_distortion_that_cannot_be_undone_is_doubted():
    (sentence,) = camera_doubts(camera(distortion=[-3.0, 0.5, 0, 0, 2.0]))
    assert "cannot be undone within the image, at 50% of the way to its corners" in sentence
    (sentence,) = camera_doubts(camera(420, 420, distortion=[-0.3, 0, 0, 0, 0]))
    assert "at 75% of the way to its corners" in sentence
