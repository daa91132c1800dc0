"""Compare the sentences that docs/troubleshooting.md quotes with those of the code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VALUE = "…"


def sentences() -> list[str]:
    """Return the quoted sentences, with `VALUE` for what differs."""
    lines = (ROOT / "docs" / "troubleshooting.md").read_text().splitlines()
    return [line[2:] for line in lines if line.startswith("> ")]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Return all texts in the code, with `VALUE` for what is put into them."""
    found = []
    for path in [*(ROOT / "vpog_ros").rglob("*.py"), *(ROOT / "vpog_core").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [n.value if isinstance(n, ast.Constant) else VALUE for n in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def holds(text: str, sentence: str) -> bool:
    """Tell whether a text has the words of a sentence between its values, in their order."""
    at = 0
    for words in sentence.split(VALUE):
        at = text.find(words, at)
        if at < 0:
            return False
        at += len(words)
    return True


@pytest.mark.parametrize("sentence", sentences())
def test_the_node_says_so(sentence, texts):
    assert any(holds(text, sentence) for text in texts)


def test_sentences_that_nobody_says_are_found(texts):
    assert not any(holds(text, f"Nobody publishes {VALUE} on the moon") for text in texts)
