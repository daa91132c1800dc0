"""Test that relative links of the docs lead somewhere, and that docs/architecture names what exists."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "vpog_core" / "weights").glob("*.md")]
)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ +(.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    broken = []
    for link in LINK.findall(page.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_drawing_of_packages_is_that_of_the_import_contract():
    folder = ROOT / "docs" / "architecture"
    assert (folder / "packages.svg").read_text() == runpy.run_path(str(folder / "draw.py"))["svg"]()


def test_the_architecture_page_names_functions_and_files_that_exist():
    page = (ROOT / "docs" / "architecture.md").read_text()
    files = [p for folder in ("vpog_core", "vpog_ros") for p in (ROOT / folder).rglob("*.py")]
    defined = set(
        re.findall(r"^\s*(?:def|class) (\w+)", "\n".join(p.read_text() for p in files), re.MULTILINE)
    )
    names = [
        name for row in re.findall(r"^\|(.+)\|$", page, re.MULTILINE) for name in re.findall("`([^`]+)`", row)
    ]
    missing = [n for n in names if n.endswith(".py") and not any(str(f).endswith(f"/{n}") for f in files)]
    missing += [n for n in names if re.fullmatch(r"[\w.]+", n) and "." in n and not n.endswith(".py")
                and n.split(".")[-1] not in defined | {"timings"}]  # fmt: skip
    assert missing == []
