"""Receive images, calibrations and detections, and pair them to frames."""
