"""Choose the Fast DDS profile of processes that exchange images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PROFILE = "fastdds.xml"
"""File in the package's folder `config`; see there what it is for."""
TRANSPORTS = "FASTDDS_BUILTIN_TRANSPORTS"
"""Environment variable that chooses Fast DDS's transports; a profile that names its own goes before it."""
VARIABLE, OLD_VARIABLE = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"
"""Environment variables that name a profile; the old one is read up to Jazzy, and deprecated in Kilted."""
OLD_DISTRIBUTIONS = ("humble", "iron", "jazzy")


def profile_environment(config: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variable that makes Fast DDS read the package's profile.

    Args:
        config: folder of the profile; environment: of this process.

    Returns:
        {} where the user has chosen a profile or transports. Other DDS implementations ignore the variable.
    """
    if not environment.keys().isdisjoint((VARIABLE, OLD_VARIABLE, TRANSPORTS)):
        return {}
    old = environment.get("ROS_DISTRO", "") in OLD_DISTRIBUTIONS
    return {OLD_VARIABLE if old else VARIABLE: str(config / PROFILE)}
