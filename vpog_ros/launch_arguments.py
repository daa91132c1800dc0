"""Make the arguments of the launch files from the node's topics and parameters: {name: (default, text)}."""

from __future__ import annotations

from vpog_ros.interface import INPUTS, OUTPUTS
from vpog_ros.parameter_table import TABLE, Spec

COLLISION_OBJECT = "collision_object"
TOPICS = {
    row.name: (row.name, f"{row.description} Type: {row.type}.".replace("`", ""))
    for row in (*INPUTS, *OUTPUTS)
    if row in INPUTS or row.name == COLLISION_OBJECT
}
"""Topics that the node subscribes to, and the one that MoveIt does; an argument renames one."""


def _text(spec: Spec) -> str:
    """Return the help of an argument: meaning, values and default of the parameter."""
    unit = f" {spec.unit}" if spec.unit else ""
    kind = "One of" if spec.choices else "Range" if spec.minimum is not None else "Value"
    return f"{spec.help} {kind}: {spec.range}{unit}. Not given: as in params_file."


PARAMETERS = {name: ("", _text(spec)) for name, spec in TABLE.items()}
"""Parameters of the node; an argument that is given takes precedence over the file of parameters."""

NODE_OPTIONS = {
    "use_sim_time": (
        "",
        "Take the time from /clock: true or false. Not given: as in params_file, else false.",
    ),
    "log_level": ("info", "Level of the nodes' log: debug, info, warn, error or fatal."),
    "reliability": (
        "",
        "Reliability that is requested of the images: reliable or best_effort. Not given: as in params_file, "
        "else what the camera offers.",
    ),
}
"""Further arguments that the launch files of one and of several cameras have in common."""
