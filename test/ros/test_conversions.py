from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest
from std_msgs.msg import Header
from vpog_ros.msg import Instance2D

from vpog_core.geometry.camera_checks import camera_doubts
from vpog_core.geometry.projection import project
from vpog_core.geometry.se3 import random_rotation, transform
from vpog_core.messages import reading
from vpog_core.types import Camera, Detection, PoseEstimate, VPOGError
from vpog_ros import conversions

K = np.array([[600.0, 0, 320], [0, 610, 240], [0, 0, 1]])
WIDTH, HEIGHT = 640, 480


def info(**fields) -> CameraInfo:
    message = CameraInfo(width=WIDTH, height=HEIGHT, distortion_model="plumb_bob")
    message.k = K.ravel().tolist()
    message.p = np.hstack([np.diag([0.9, 0.9, 1]) @ K, np.zeros((3, 1))]).ravel().tolist()
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def pose(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return transform(random_rotation(rng), rng.uniform(-1, 1, 3))


class TestCamera:
    def test_plain(self):
        camera = reading.camera_from_info(info(d=[0.1, -0.2, 0.001, 0.002, 0.05]))
        np.testing.assert_array_equal(camera.K, K)
        assert (camera.width, camera.height, camera.model) == (WIDTH, HEIGHT, "plumb_bob")
        np.testing.assert_array_equal(camera.distortion, [0.1, -0.2, 0.001, 0.002, 0.05])

    @pytest.mark.parametrize(
        ("model", "n", "known_as"),
        [
            ("rational_polynomial", 8, "rational_polynomial"),
            ("equidistant", 4, "equidistant"),
            ("fisheye", 4, "equidistant"),
            ("", 5, "plumb_bob"),
        ],
    )
    def test_models(self, model, n, known_as):
        camera = reading.camera_from_info(info(distortion_model=model, d=[0.01] * n))
        assert (camera.model, camera.distortion.size) == (known_as, n)

    def test_no_distortion_needs_no_model(self):
        assert reading.camera_from_info(info(distortion_model="none", d=[0.0] * 5)).distortion.size == 0

    def test_rectified_takes_the_projection(self):
        camera = reading.camera_from_info(info(d=[0.1] * 5), rectified=True)
        np.testing.assert_allclose(camera.K, np.diag([0.9, 0.9, 1]) @ K)
        assert camera.distortion.size == 0

    def test_binning_keeps_the_rays(self):
        camera = reading.camera_from_info(info(binning_x=2, binning_y=2))
        assert (camera.width, camera.height) == (WIDTH // 2, HEIGHT // 2)
        # The corner between the first four pixels becomes the centre of the first binned pixel.
        full = np.linalg.solve(K, [0.5, 0.5, 1])
        np.testing.assert_allclose(np.linalg.solve(camera.K, [0, 0, 1]), full)

    def test_region_moves_the_principal_point(self):
        roi = RegionOfInterest(x_offset=100, y_offset=50, width=200, height=160)
        camera = reading.camera_from_info(info(roi=roi))
        assert (camera.width, camera.height) == (200, 160)
        np.testing.assert_allclose(camera.K[:2, 2], [220, 190])

    def test_round_trip(self):
        camera = Camera(K=K, width=WIDTH, height=HEIGHT, distortion=np.array([0.1, 0.2, 0, 0, 0.1]))
        again = reading.camera_from_info(conversions.camera_to_info(camera, Header()))
        np.testing.assert_array_equal(again.K, camera.K)
        np.testing.assert_array_equal(again.distortion, camera.distortion)

    @pytest.mark.parametrize("model", ["equidistant", "fisheye"])
    @pytest.mark.parametrize("zeros", [0, 1, 4, 8])
    def test_zeros_after_the_coefficients_of_a_fisheye_are_left_out(self, model, zeros):
        d = [0.1, 0.02, 0.003, 0.0004, *[0.0] * zeros]
        camera = reading.camera_from_info(info(distortion_model=model, d=d))
        assert camera.model == "equidistant"
        np.testing.assert_array_equal(camera.distortion, d[:4])

    @pytest.mark.parametrize("d", [[], [0.0] * 4, [0.0] * 5, [0.0] * 8])
    def test_a_fisheye_without_distortion_is_no_pinhole(self, d):
        camera = reading.camera_from_info(info(distortion_model="equidistant", d=d))
        assert camera.model == "equidistant"
        # r = f theta: 45 degrees off the axis.
        np.testing.assert_allclose(project(camera, np.array([1.0, 0, 1])), [320 + 600 * np.pi / 4, 240])

    @pytest.mark.parametrize("n", [4, 5, 8, 12, 14])
    def test_every_number_of_coefficients_of_opencv(self, n):
        d = [0.01] * n
        camera = reading.camera_from_info(info(d=d))
        np.testing.assert_array_equal(camera.distortion, d)
        padded = reading.camera_from_info(info(d=[*d, *[0.0] * 6]))
        points = np.array([[0.1, -0.2, 1.0], [0.3, 0.2, 1.0]])
        np.testing.assert_array_equal(project(padded, points), project(camera, points))

    @pytest.mark.parametrize(
        "model", ["", "none", "None", "plumb_bob", "thin_prism", "MODIFIED_BROWN_CONRADY"]
    )
    @pytest.mark.parametrize("d", [[], [0.0] * 5])
    def test_no_distortion_needs_no_known_model(self, model, d):
        camera = reading.camera_from_info(info(distortion_model=model, d=d))
        assert (camera.model, camera.distortion.size) == ("plumb_bob", 0)

    @pytest.mark.parametrize("model", ["omni", "double_sphere", "equirectangular"])
    def test_rays_of_no_pinhole_are_refused_with_zeros_too(self, model):
        with pytest.raises(VPOGError, match=f"'{model}' is not known"):
            reading.camera_from_info(info(distortion_model=model, d=[0.0] * 4))

    def test_none_with_coefficients_is_refused(self):
        with pytest.raises(VPOGError, match=r"'none', but the coefficients are .*name the model"):
            reading.camera_from_info(info(distortion_model="none", d=[0.1, 0, 0, 0, 0]))

    def test_zero_focal_length_is_refused(self):
        with pytest.raises(VPOGError, match=r"focal length is \(0, 0\).*publish a calibrated CameraInfo"):
            reading.camera_from_info(info(k=[0.0] * 9))
        with pytest.raises(VPOGError, match=r"focal length is \(1e\+300, 1e\+300\)"):
            reading.camera_from_info(info(k=[1e300, 0.0, 320.0, 0.0, 1e300, 240.0, 0.0, 0.0, 1.0]))

    def test_unknown_distortion_is_refused(self):
        with pytest.raises(VPOGError, match="'thin_prism' is not known"):
            reading.camera_from_info(info(distortion_model="thin_prism", d=[0.1] * 4))


class TestCameraOfAnotherImage:
    """Tests calibrations that drivers and simulators publish beside images of another resolution."""

    def test_k_of_binned_images_with_the_size_of_the_sensor_is_doubted(self):
        camera = reading.camera_from_info(info(width=1280, height=960, binning_x=2, binning_y=2))
        (sentence,) = camera_doubts(camera)
        assert "(159.75, 119.75) is far from the middle of the 640x480 image" in sentence

    def test_k_of_a_smaller_image_is_doubted_and_of_a_larger_one_refused(self):
        small = info(k=[277.0, 0.0, 160.0, 0.0, 277.0, 120.0, 0.0, 0.0, 1.0])
        (sentence,) = camera_doubts(reading.camera_from_info(small))
        assert (
            "(160, 120) is far from the middle of the 640x480 image: is K for another resolution" in sentence
        )
        large = info(k=[1200.0, 0.0, 640.0, 0.0, 1200.0, 480.0, 0.0, 0.0, 1.0])
        with pytest.raises(VPOGError, match=r"\(640, 480\) lies outside of the 640x480 image.*1280x960"):
            reading.camera_from_info(large)

    def test_a_region_far_from_the_middle_is_usual(self):
        roi = RegionOfInterest(x_offset=500, y_offset=20, width=100, height=80)
        camera = reading.camera_from_info(info(roi=roi))
        assert camera_doubts(camera) == []
        assert camera.K[0, 2] < 0

    def test_a_region_with_the_size_of_the_region_is_refused(self):
        roi = RegionOfInterest(x_offset=320, y_offset=0, width=640, height=480)
        with pytest.raises(VPOGError, match=r"does not lie in the 640x480 image.*whole sensor"):
            reading.camera_from_info(info(roi=roi))


def instance(mask: np.ndarray | None = None, **roi) -> Instance2D:
    message = Instance2D(class_id="mug", instance=3, score=0.5, roi=RegionOfInterest(**roi))
    if mask is not None:
        message.mask = Image(height=mask.shape[0], width=mask.shape[1], encoding="mono8", step=mask.shape[1])
        message.mask.data = (mask * 255).astype(np.uint8).tobytes()
    return message


class TestInstance:
    def test_box(self):
        message = instance(x_offset=10, y_offset=20, width=30, height=40)
        detection = reading.detection_from_instance(message, WIDTH, HEIGHT)
        np.testing.assert_array_equal(detection.box, [9.5, 19.5, 39.5, 59.5])
        assert (detection.class_id, detection.instance, detection.score) == ("mug", 3, 0.5)
        assert detection.mask is None

    def test_round_trip_grows_to_whole_pixels(self):
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[20:60, 10:40] = True
        sent = Detection("mug", np.array([10.4, 20.6, 39.2, 58.9]), 0.5, mask, 3)
        message = conversions.instance_from_detection(sent, Header())
        received = reading.detection_from_instance(message, WIDTH, HEIGHT)
        np.testing.assert_array_equal(received.box, [9.5, 20.5, 39.5, 59.5])
        np.testing.assert_array_equal(received.mask, mask)

    def test_mask_of_the_box_lands_in_the_image(self):
        inside = np.random.default_rng(0).random((40, 30)) > 0.5
        message = instance(inside, x_offset=10, y_offset=20, width=30, height=40)
        mask = reading.detection_from_instance(message, WIDTH, HEIGHT).mask
        assert mask.shape == (HEIGHT, WIDTH)
        np.testing.assert_array_equal(mask[20:60, 10:40], inside)
        assert mask.sum() == inside.sum()

    def test_box_of_the_mask(self):
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[5:9, 7:20] = True
        detection = reading.detection_from_instance(instance(mask), WIDTH, HEIGHT)
        np.testing.assert_array_equal(detection.box, [6.5, 4.5, 19.5, 8.5])

    def test_mask_of_another_size_is_refused(self):
        message = instance(np.ones((7, 7), bool), x_offset=1, y_offset=1, width=5, height=5)
        with pytest.raises(VPOGError, match="7x7 fits neither the 640x480 image nor its 5x5 box"):
            reading.detection_from_instance(message, WIDTH, HEIGHT)

    def test_coloured_mask_is_refused(self):
        message = instance(np.ones((5, 15), bool), x_offset=1, y_offset=1, width=5, height=5)
        message.mask.encoding, message.mask.width = "rgb8", 5
        with pytest.raises(VPOGError, match="send mono8"):
            reading.detection_from_instance(message, WIDTH, HEIGHT)


class TestPose:
    @pytest.mark.parametrize("seed", range(5))
    def test_round_trip(self, seed):
        T = pose(seed)
        np.testing.assert_allclose(
            conversions.pose_from_message(conversions.pose_to_message(T)), T, atol=1e-12
        )

    def test_object_pose_carries_everything(self):
        covariance = np.arange(36.0).reshape(6, 6)
        estimate = PoseEstimate("mug", 2, pose(), 0.7, covariance, 55, 1.25)
        message = conversions.object_pose(estimate)
        assert (message.class_id, message.instance, message.inliers) == ("mug", 2, 55)
        assert message.score == pytest.approx(0.7)
        assert message.reprojection_error == pytest.approx(1.25)
        np.testing.assert_array_equal(message.pose.covariance, covariance.ravel())
        np.testing.assert_allclose(conversions.pose_from_message(message.pose.pose), pose(), atol=1e-12)

    def test_unknown_covariance_is_zeros(self):
        message = conversions.object_pose(PoseEstimate("mug", T_cam_obj=pose()))
        assert not np.any(message.pose.covariance)

    def test_stamped_messages_keep_the_header(self):
        header = Header(frame_id="camera")
        header.stamp.sec, header.stamp.nanosec = 5, 7
        estimate = PoseEstimate("mug", T_cam_obj=pose())
        frame = conversions.transform_stamped(estimate.T_cam_obj, header, "mug_0")
        assert (frame.header.frame_id, frame.child_frame_id) == ("camera", "mug_0")
        assert frame.transform.translation.x == pytest.approx(pose()[0, 3])
        assert conversions.pose_stamped(estimate, header).header == header
        assert reading.stamp_to_ns(header.stamp) == 5_000_000_007

    def test_marker(self):
        estimate = PoseEstimate("mug", T_cam_obj=pose())
        marker = conversions.mesh_marker(estimate, Header(), [], 4, 1.5)
        assert (marker.type, marker.ns, marker.id) == (marker.TRIANGLE_LIST, "mug", 4)
        assert (marker.lifetime.sec, marker.lifetime.nanosec) == (1, 500_000_000)
        assert marker.scale.x == marker.scale.y == marker.scale.z == 1.0
