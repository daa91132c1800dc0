"""Accept renamed options of a command line under their old names for one version."""

from __future__ import annotations

import argparse
import sys


class RenamedOption(argparse.Action):
    """Stores the value under the new name, `dest`, and prints the new name on stderr.

    parser.add_argument("--old-name", dest="new_name", action=RenamedOption, help=argparse.SUPPRESS)
    """

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        new = f"--{self.dest.replace('_', '-')}"
        print(
            f"vpog: {option_string} is now {new}; the old name will go in the next version.", file=sys.stderr
        )
        setattr(namespace, self.dest, values)
