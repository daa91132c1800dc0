"""Poses of a recorded bag, without ROS: reads a bag, estimates, writes a bag, a video and a table."""
