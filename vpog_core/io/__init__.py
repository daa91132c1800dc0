"""Read camera files, images and masks."""
