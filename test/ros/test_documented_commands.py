"""Test the commands that README, docs and launch files show: files, executables and arguments exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from vpog_ros.parameter_table import TABLE

from .launch_stand_in import run

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "launch").glob("*.py"))]
LAUNCH = re.compile(r"ros2 launch vpog_ros (\S+\.launch\.py)((?:\s+\w+:=[^\s`\x22]+)*)")
RUN = re.compile(r"ros2 run vpog_ros (\w+)([^\n`]*)")


def found(pattern: re.Pattern) -> list[tuple[str, str]]:
    """Find a pattern in all pages, with lines joined that a backslash continues."""
    texts = [page.read_text().replace("\\\n", " ") for page in PAGES]
    return sorted({match for text in texts for match in pattern.findall(text)})


@pytest.mark.parametrize(("file", "words"), found(LAUNCH))
def test_launch_commands_start_what_they_say(monkeypatch, file, words):
    given = dict(word.split(":=", 1) for word in words.split())
    started = run(
        monkeypatch, ROOT / "launch" / file, **({"cameras": "front"} if "cameras" in file else {}) | given
    )
    executables = {entity.executable for entity in started if hasattr(entity, "executable")}
    assert {"vpog_node", *(["rviz2"] if given.get("rviz") == "true" else [])} <= executables


def test_every_launch_file_is_shown():
    assert {file for file, _ in found(LAUNCH)} == {path.name for path in (ROOT / "launch").glob("*.py")}


@pytest.mark.parametrize(("executable", "words"), found(RUN))
def test_run_commands_name_executables_and_parameters(executable, words):
    assert (ROOT / "scripts" / executable).is_file()
    if executable == "vpog_node":
        assert set(re.findall(r"-p (\w+):=", words)) <= TABLE.keys()
