"""Estimate poses of a recorded bag without ROS, and write a bag, a video and a table."""
