"""Publish the results of a frame."""
