"""Install `vpog_core` and the `vpog` command without ROS; the metadata is in pyproject.toml."""

from setuptools import setup

setup()
