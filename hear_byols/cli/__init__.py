"""The subcommands of ``hear-byols``, a module each.

A module has ``add_parser(subparsers)``, which registers the subcommand and sets its ``run`` default to a function from
the parsed arguments to the exit status. Nothing heavy is imported before that function runs.
"""

from hear_byols.cli.main import main

__all__ = ["main"]
