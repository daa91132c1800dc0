"""Tell the new names of renamed options of a command line."""

from __future__ import annotations

import argparse
import sys


class RenamedOption(argparse.Action):
    """Stores the value under the new name, `dest`, and prints the new name on stderr: for one version.

    parser.add_argument("--old-name", dest="new_name", action=RenamedOption, help=argparse.SUPPRESS)
    """

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        new = f"--{self.dest.replace('_', '-')}"
        print(
            f"vpog: {option_string} is now {new}; the old name will go in the next version.", file=sys.stderr
        )
        setattr(namespace, self.dest, values)


class RefusedOption(argparse.Action):
    """Refuses an option of earlier versions with its new name, `const`.

    parser.add_argument("--old-name", action=RefusedOption, const="--new-name", help=argparse.SUPPRESS)
    """

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        parser.error(f"{option_string} is called {self.const} now: use that name.")
