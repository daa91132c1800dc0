"""Test that package.xml, pyproject.toml, README and the imports agree on what comes from apt and pip."""

from __future__ import annotations

import ast
import re
import sys
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROSDEP = {
    "python3-numpy": "numpy",
    "python3-opencv": "opencv-python-headless",
    "python3-pil": "pillow",
    "python3-scipy": "scipy",
    "python3-tqdm": "tqdm",
    "python3-yaml": "pyyaml",
}
"""Names on PyPI of what package.xml takes from the distribution."""
MODULES = {"tf2_ros": "tf2_ros_py"}
"""Packages whose modules are called otherwise."""


@pytest.fixture(scope="module")
def package() -> str:
    return (ROOT / "package.xml").read_text()


@pytest.fixture(scope="module")
def depends(package) -> set[str]:
    """Read the dependencies of package.xml."""
    return {item.text for item in ElementTree.fromstring(package) if item.tag in ("depend", "exec_depend")}


@pytest.fixture(scope="module")
def from_pip(package) -> set[str]:
    """Read the packages that package.xml says come by pip."""
    (names,) = re.findall(r"<!-- By pip, not in the distribution: (.*)\. -->", package)
    return set(names.split(", "))


def names_of(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w-]+", line).group().lower() for line in requirements}


def test_what_the_library_needs_comes_from_one_of_both(depends, from_pip):
    (listed,) = re.findall(r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.S | re.M)
    needed = names_of(re.findall(r'"(.*?)"', listed))
    by_apt = {ROSDEP[name] for name in depends & ROSDEP.keys()}
    brought = names_of(metadata.requires("rosbags-image") or [])
    assert not by_apt & from_pip
    assert needed == by_apt | from_pip | (needed & brought)


def test_the_readme_installs_by_pip_what_package_xml_says(from_pip):
    (names,) = re.findall(r"^    pip install (torch .*)$", (ROOT / "README.md").read_text(), re.M)
    assert set(names.split()) == from_pip


def test_every_ros_package_that_is_imported_is_a_dependency(depends):
    """vpog_ros imports at its tops what is installed with it; `optional` tries the others by name."""
    found = set()
    for path in [*(ROOT / "vpog_ros").glob("*.py"), *(ROOT / "launch").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
    others = {"vpog_core", "vpog_ros", "numpy", "cv2", "tqdm", *sys.stdlib_module_names}
    assert {MODULES.get(name, name) for name in found - others} <= depends
    optional = re.findall(r'message_class\("(\w+)/', (ROOT / "vpog_ros" / "optional.py").read_text())
    assert set(optional) <= depends


@pytest.mark.parametrize("distribution", ["Jazzy", "Kilted", "Lyrical"])
def test_distributions_are_named(distribution):
    assert distribution in (ROOT / "docs" / "deployment.md").read_text()
