"""Make config/vpog.yaml from the table of parameters: `python -m vpog_ros.parameter_file`."""

from __future__ import annotations

import json
import textwrap

from vpog_ros.parameter_table import CONFIGURE, LIVE, START, TABLE, Spec

_HEAD = """\
# Parameters of vpog_node, with their defaults. Made from the code by `python -m vpog_ros.parameter_file`;
# copy this file and change the copy. `ros2 param describe /vpog_node NAME` says the same of a running node.
/**:
  ros__parameters:
"""
_WHEN = {
    CONFIGURE: "Read at configure; to change one, clean the node up first.",
    LIVE: "May be changed at any time.",
    START: "Read when the process starts.",
}
_TAIL = """
    # ---- Quality of service of the inputs ----

    # By the name the topics are remapped to. By default (auto) reliable is requested where every publisher of
    # the topic offers it, and best effort where one does not; a camera_info published before is taken
    # where it is kept (transient local). To ask for something else:
    # qos_overrides:
    #   /camera/image_raw:
    #     subscription: {reliability: best_effort, durability: volatile, history: keep_last, depth: 5}
"""
_INDENT = " " * 4


def parameter_file() -> str:
    """Return the text of config/vpog.yaml."""
    parts = [_HEAD]
    for when, title in _WHEN.items():
        parts.append(f"\n{_INDENT}# ---- {title} ----\n")
        parts += [_entry(name, spec) for name, spec in TABLE.items() if spec.when == when]
    return "".join([*parts, _TAIL])


def _entry(name: str, spec: Spec) -> str:
    """Return the lines of one parameter: what it means, its range, its default."""
    unit = f" {spec.unit}" if spec.unit else ""
    has_range = spec.choices or spec.minimum is not None
    comment = f"{spec.help} [{spec.range}{unit}]" if has_range else spec.help
    lines = textwrap.wrap(comment, 110, initial_indent=f"{_INDENT}# ", subsequent_indent=f"{_INDENT}# ")
    # JSON values are valid YAML.
    return "\n".join(["", *lines, f"{_INDENT}{name}: {json.dumps(spec.default)}", ""])


if __name__ == "__main__":
    print(parameter_file(), end="")
