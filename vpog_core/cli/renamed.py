"""Options of a command line that have a new name, and work under the old one for one version."""

from __future__ import annotations

import argparse
import sys


class RenamedOption(argparse.Action):
    """Stores the value under the new name, given by `dest`, and says on stderr what the new name is.

    parser.add_argument("--old-name", dest="new_name", action=RenamedOption, help=argparse.SUPPRESS)
    """

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        new = f"--{self.dest.replace('_', '-')}"
        print(
            f"vpog: {option_string} is now {new}; the old name will go in the next version.", file=sys.stderr
        )
        setattr(namespace, self.dest, values)
