"""Draw boxes around objects with a mouse, in place of a detector."""
