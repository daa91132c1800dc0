"""6D pose of objects known by their mesh alone, from one RGB image and 2D detections."""

__version__ = "0.1.0"
