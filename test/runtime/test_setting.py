"""Test that settings declared once are checked in one way, and become flags of the command line."""

from __future__ import annotations

import argparse
from dataclasses import FrozenInstanceError, dataclass, replace

import pytest

from vpog_core.cli.flags import add_flags, given_flags, values_of
from vpog_core.inference.options import LoadSettings, Options, TrackerSettings
from vpog_core.messages.stream_settings import StreamSettings
from vpog_core.setting import check, setting, settings_of
from vpog_core.types import VPOGError


@dataclass(frozen=True)
class Kitchen:
    """Declares one setting of each kind."""

    pot: str = setting("steel", "What the pot is made of.", choices=("steel", "clay"))
    spoons: int = setting(2, "Spoons, at 50 % off.", unit="spoons", minimum=1, maximum=5)
    heat: float = setting(0.5, "How hot it is.", minimum=0.0, maximum=1.0)
    lid: bool = setting(True, "Put a lid on.", off="Leave the lid off.")
    salt: bool = setting(False, "Add salt.")
    note: str = setting("", "Any text.")
    count: int = 3

    def __post_init__(self) -> None:
        check(self)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("pot", "gold", "pot is 'gold': it must be one of steel, clay."),
        ("spoons", 6, "spoons is 6: it must lie between 1 and 5 spoons."),
        ("spoons", True, "spoons is True: it must be an integer."),
        ("spoons", 2.0, "spoons is 2.0: it must be an integer."),
        ("heat", float("nan"), "heat is nan: it must lie between 0 and 1."),
        ("heat", "hot", "heat is 'hot': it must be a number such as 1.0."),
        ("lid", 1, "lid is 1: it must be true or false."),
    ],
)
def test_values_that_do_not_fit_are_refused_in_a_sentence(name, value, sentence):
    with pytest.raises(VPOGError) as error:
        Kitchen(**{name: value})
    assert str(error.value) == sentence


def test_whole_numbers_are_numbers_and_plain_fields_are_no_settings():
    assert Kitchen(heat=1).heat == 1
    assert "count" not in settings_of(Kitchen)
    with pytest.raises(FrozenInstanceError):
        Kitchen().heat = 0.1


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(parser, Kitchen)
    return parser.parse_args(words)


def test_flags_have_the_defaults_and_turn_what_is_true_or_false_round():
    assert Kitchen(**values_of(parsed(), Kitchen)) == Kitchen()
    assert given_flags(parsed(), Kitchen) == {}
    words = ("--pot", "clay", "--spoons", "4", "--no-lid", "--salt")
    arguments = parsed(*words)
    assert Kitchen(**values_of(arguments, Kitchen)) == Kitchen(pot="clay", spoons=4, lid=False, salt=True)
    given = given_flags(arguments, Kitchen)
    assert [word for pair in given.items() for word in pair if word] == list(words)


@pytest.mark.parametrize(
    "words", [("--spoons", "6"), ("--spoons", "two"), ("--heat", "inf"), ("--pot", "gold")]
)
def test_flags_refuse_what_the_settings_refuse(words):
    with pytest.raises(argparse.ArgumentError, match=words[0][2:]):
        parsed(*words)


def test_the_help_says_meaning_range_and_default():
    parser = argparse.ArgumentParser()
    add_flags(parser, Kitchen)
    text = " ".join(parser.format_help().split())
    assert "--spoons SPOONS Spoons, at 50 % off. Range: 1 to 5. (default: 2)" in text
    assert "--no-lid Leave the lid off." in text
    assert "--salt Add salt." in text


@pytest.mark.parametrize("settings_class", [LoadSettings, Options, TrackerSettings, StreamSettings])
def test_what_is_declared_reads_well_and_its_default_fits(settings_class):
    for name, declared in settings_of(settings_class).items():
        assert declared.help.endswith(".")
        assert declared.off.endswith(".") == (declared.default is True)
        assert declared.problem(name, declared.default) == ""
        assert declared.range


def test_options_can_be_replaced_and_are_checked_then():
    assert replace(Options(), rolls=12).rolls == 12
    with pytest.raises(VPOGError, match="rolls is 13: it must lie between 1 and 12 turns"):
        replace(Options(), rolls=13)
