"""Make the SROS2 policy of the pose node from its interface.

python -m vpog_ros.sros_policy [NAME:=TOPIC ...] [--node NAME] [--namespace NS] > my.policy.xml
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from xml.sax.saxutils import escape, quoteattr

from vpog_ros.interface import ACTIONS, INPUTS, OUTPUTS, SERVICES

OF_EVERY_NODE = {
    "publish": ("/rosout", "/parameter_events"),
    "subscribe": ("/clock", "/parameter_events"),
    "execute": (),
    "reply": (
        "~/describe_parameters",
        "~/get_parameter_types",
        "~/get_parameters",
        "~/get_type_description",
        "~/list_parameters",
        "~/set_parameters",
        "~/set_parameters_atomically",
    ),
}
OF_LIFECYCLE_NODES = {
    "publish": ("~/transition_event",),
    "subscribe": (),
    "execute": (),
    "reply": (
        "~/change_state",
        "~/get_available_states",
        "~/get_available_transitions",
        "~/get_state",
        "~/get_transition_graph",
    ),
}
WITH_TF = ("/tf", "/tf_static")
"""Topics that the node subscribes to if `target_frame` or `plane_frame` is set."""

ROWS = {"publish": OUTPUTS, "subscribe": INPUTS, "reply": SERVICES, "execute": ACTIONS}
ELEMENTS = {"publish": "topic", "subscribe": "topic", "reply": "service", "execute": "action"}

HEAD = """\
<?xml version="1.0" encoding="UTF-8"?>
<!-- What the pose node may publish, subscribe to and answer; everything else is denied.
     Made from the code by `python -m vpog_ros.sros_policy`, which takes remappings: image:=/camera/image.
     ros2 security create_enclave KEYSTORE ENCLAVE
     ros2 security create_permission KEYSTORE ENCLAVE THIS_FILE -->
<policy version="0.2.0">
  <enclaves>
"""
TAIL = """\
        </profile>
      </profiles>
    </enclave>
  </enclaves>
</policy>
"""


def allowed(kind: str, node: str, namespace: str, remapped: Mapping[str, str]) -> list[str]:
    """Return the full names of what the node may do of a kind: publish, subscribe, reply, or execute.

    NAME in a row's name stands for any object's name, and is `*` here, which DDS Security matches with any.

    Args:
        remapped: other names of topics, by the names in the interface.
    """
    names = [row.name.replace("NAME", "*") for row in ROWS[kind]]
    names += [*OF_LIFECYCLE_NODES[kind], *OF_EVERY_NODE[kind]]
    if kind == "subscribe":
        names += WITH_TF
    return sorted({_full(remapped.get(name, name), node, namespace) for name in names})


def policy(node: str = "vpog_node", namespace: str = "/", remapped: Mapping[str, str] | None = None) -> str:
    """Make the policy, as `ros2 security create_permission` reads it."""
    enclave = _full(node, node, namespace)
    lines = [
        HEAD,
        f"    <enclave path={quoteattr(enclave)}>\n      <profiles>\n",
        f"        <profile ns={quoteattr(namespace)} node={quoteattr(node)}>\n",
    ]
    for kind, element in ELEMENTS.items():
        names = allowed(kind, node, namespace, remapped or {})
        lines.append(f'          <{element}s {kind}="ALLOW">\n')
        lines += [f"            <{element}>{escape(name)}</{element}>\n" for name in names]
        lines.append(f"          </{element}s>\n")
    return "".join([*lines, TAIL])


def _full(name: str, node: str, namespace: str) -> str:
    if name.startswith("/"):
        return name
    root = namespace.rstrip("/")
    return f"{root}/{node}/{name[2:]}" if name.startswith("~/") else f"{root}/{name}"


def main() -> None:
    """Print the policy for the names on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("remappings", nargs="*", metavar="NAME:=TOPIC", help="as ROS takes them")
    parser.add_argument("--node", default="vpog_node", help="the node's name (default: %(default)s)")
    parser.add_argument("--namespace", default="/", help="the node's namespace (default: %(default)s)")
    arguments = parser.parse_args()
    known = {row.name for rows in (INPUTS, OUTPUTS) for row in rows}
    remapped = dict(text.split(":=", 1) if ":=" in text else (text, "") for text in arguments.remappings)
    for name, topic in remapped.items():
        if name not in known or not topic:
            parser.error(f"'{name}' is no topic of the node with a new name: write one of {', '.join(known)}")
    print(policy(arguments.node, arguments.namespace, remapped), end="")


if __name__ == "__main__":
    main()
