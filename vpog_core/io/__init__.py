"""Files and messages of cameras: calibrations and pixels."""
