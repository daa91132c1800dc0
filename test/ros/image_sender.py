"""Publish small messages, each followed by an image: python image_sender.py COUNT"""

from __future__ import annotations

import sys
import time

import numpy as np
import rclpy
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from vpog_ros.image_conversion import rgb_to_image

RATE_HZ = 20.0
SIZE = (480, 640, 3)


def main() -> None:
    rclpy.init()
    node = rclpy.create_node("image_sender")
    info = node.create_publisher(CameraInfo, "camera_info", 5)
    image = node.create_publisher(Image, "image", 5)
    while not (info.get_subscription_count() and image.get_subscription_count()):
        time.sleep(0.05)
    pixels = np.zeros(SIZE, np.uint8)
    for number in range(int(sys.argv[1])):
        header = Header(stamp=Time(nanoseconds=number).to_msg())
        info.publish(CameraInfo(header=header))
        image.publish(rgb_to_image(pixels, header))
        time.sleep(1.0 / RATE_HZ)
    # Wait until what was lost is sent again.
    time.sleep(5.0)


if __name__ == "__main__":
    main()
