from __future__ import annotations

from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy")

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.parameter import Parameter

from vpog_core.inference.options import Options, TrackerSettings
from vpog_core.setting import settings_of
from vpog_ros import parameters
from vpog_ros.parameter_file import parameter_file
from vpog_ros.parameter_table import LIVE, TABLE
from vpog_ros.parameters import Settings, check_all, descriptor, problem
from vpog_ros.vpog_node import VpogNode

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", TABLE)
def test_defaults_are_good(name):
    assert problem(name, TABLE[name].default) == ""


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("device", "gpu", "device is 'gpu': it must be one of auto, cpu, cuda."),
        ("image_transport", "theora", "one of raw, compressed"),
        ("min_score", 1.5, "min_score is 1.5: it must lie between 0 and 1."),
        ("min_score", float("nan"), "must lie between"),
        ("min_score", 1, "must be a number such as 1.0"),
        ("image_buffer_size", 0, "between 1 and 300 images"),
        ("image_bits", 7, "between 8 and 16 bits"),
        ("image_buffer_size", 2.0, "must be an integer"),
        ("publish_tf", 1, "must be true or false"),
        ("max_detections", True, "must be an integer"),
        ("objects_dir", 5, "must be a string"),
        ("marker_lifetime", -1.0, "between 0 and 3600 s"),
    ],
)
def test_bad_values_are_refused_with_a_reason(name, value, reason):
    sentence = problem(name, value)
    assert sentence.startswith(f"{name} is ")
    assert reason in sentence


OVERRIDE = "qos_overrides./image.subscription.reliability"
NOW = {name: spec.default for name, spec in TABLE.items()} | {OVERRIDE: "auto"}


@pytest.mark.parametrize(
    ("name", "value", "configured", "reason"),
    [
        ("weights", "other.safetensors", False, ""),
        ("weights", "other.safetensors", True, "clean the node up"),
        ("target_object", "mug", True, ""),
        ("autostart", False, False, "read-only once the process runs"),
        (OVERRIDE, "auto", True, ""),
        (OVERRIDE, "reliable", True, "read-only once the process runs"),
        *((name, spec.default, True, "") for name, spec in TABLE.items()),
    ],
)
def test_changes_that_come_too_late_are_refused_and_no_changes_are_not(name, value, configured, reason):
    answer = check_all([Parameter(name, value=value)], NOW, configured)
    assert answer.successful is (not reason)
    assert reason in answer.reason


def test_names_of_others_are_not_judged():
    assert problem("qos_overrides./image.subscription.depth", -5) == ""


def test_one_bad_value_refuses_the_whole_request():
    answer = check_all(
        [Parameter("min_score", value=0.5), Parameter("device", value="tpu")], NOW, configured=False
    )
    assert not answer.successful
    assert "'tpu'" in answer.reason


@pytest.mark.parametrize("name", TABLE)
def test_descriptions_read_well(name):
    message = descriptor(TABLE[name])
    assert message.description.endswith(".")
    if TABLE[name].minimum is not None:
        assert message.floating_point_range or message.integer_range


def test_settings_have_the_table_s_defaults():
    settings = Settings()
    assert {name: getattr(settings, name) for name in TABLE} == {name: TABLE[name].default for name in TABLE}


def test_the_yaml_file_is_made_from_the_table_and_holds_it():
    text = (ROOT / "config" / "vpog.yaml").read_text()
    told = "run `python -m vpog_ros.parameter_file > config/vpog.yaml` in the environment."
    assert text == parameter_file(), told
    content = yaml.safe_load(text)
    assert content["/**"]["ros__parameters"] == {name: spec.default for name, spec in TABLE.items()}


def test_what_can_change_while_running():
    assert {name for name, spec in TABLE.items() if spec.when == LIVE} >= {"target_object", "min_score"}
    assert parameters.WHEN_TEXT.keys() >= {spec.when for spec in TABLE.values()}


@pytest.fixture
def node_with():
    """Make nodes that are given parameters at start, as a file or the command line gives them."""
    context = rclpy.Context()
    rclpy.init(context=context)
    nodes = []

    def make(**given) -> VpogNode:
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        nodes.append(
            VpogNode(lambda settings, progress: None, context=context, parameter_overrides=overrides)
        )
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    context.try_shutdown()


def test_a_renamed_parameter_works_under_its_old_name_and_says_the_new_one(node_with, monkeypatch):
    said = []
    monkeypatch.setattr(RcutilsLogger, "warning", lambda self, text, **_: said.append(text))
    node = node_with(second_look=3, retry_views=4, second_look_below=0.25)
    assert (node.settings.retry_views, node.settings.retry_below_score) == (3, 0.25)
    assert [text.split(";")[0] for text in said] == [
        "The parameter second_look is now retry_views",
        "The parameter second_look_below is now retry_below_score",
    ]
    assert not node.has_parameter("second_look")
    assert parameters.ignored(node) == ""
    # The services for parameters set them so.
    assert node.set_parameters_atomically([Parameter("second_look", value=5)]).successful
    assert node.settings.retry_views == 5
    refused = node.set_parameters_atomically([Parameter("second_look", value=99)])
    assert "retry_views out of range" in refused.reason
    assert len(said) == 4


@pytest.mark.parametrize(("old", "new"), [(True, "when_asked"), (False, "configure")])
def test_onboard_when_asked_is_a_value_of_onboarding(node_with, monkeypatch, old, new):
    said = []
    monkeypatch.setattr(RcutilsLogger, "warning", lambda self, text, **_: said.append(text))
    node = node_with(onboard_when_asked=old)
    assert node.settings.onboarding == new
    assert node.set_parameters_atomically([Parameter("onboard_when_asked", value=not old)]).successful
    assert node.settings.onboarding != new
    assert said[0].startswith(
        f"The parameter onboard_when_asked is now onboarding: {new}; the old name will go"
    )


def test_a_bad_value_under_an_old_name_is_refused(node_with):
    with pytest.raises(ParameterException, match="retry_views out of range"):
        node_with(second_look=99)


def test_options_are_parameters_with_the_same_declaration():
    for name, declared in settings_of(Options).items():
        assert vars(declared).items() <= vars(TABLE[name]).items()
    values = parameters.group(Settings(tracking_max_age=7.0), TrackerSettings, "tracking_")
    assert TrackerSettings(**values) == TrackerSettings(max_age=7.0)
