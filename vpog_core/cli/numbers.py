"""Parse numbers of a command line within their ranges."""

from __future__ import annotations

import argparse


def count(text: str, least: int = 0) -> int:
    """Parse a whole number from zero on; argparse reports what is wrong with another one."""
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number, at least {least}")
    return value


def positive(text: str) -> int:
    """Parse a whole number from one on."""
    return count(text, least=1)


def fraction(text: str) -> float:
    """Read a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"'{text}' must be a number from 0 to 1")
    return value
