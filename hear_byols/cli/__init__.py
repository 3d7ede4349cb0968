"""The subcommands of ``hear-byols``, a module each.

A module has ``add_parser(subparsers)``, which registers the subcommand, and ``run(args)``, which does what it is for
and gives the exit status. Nothing heavy is imported before that runs.
"""
