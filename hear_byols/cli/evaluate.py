"""``hear-byols evaluate``: models on HEAR tasks."""

import argparse
import sys
from functools import partial
from pathlib import Path

from hear_byols.cli.options import add_command, add_device, tell

_DESCRIPTION = """\
Evaluate models on tasks in HEAR format, and write a table beside published scores of the same tasks.

A model is [LABEL=]NAME[+NAME...][{JSON options}] with names of 'hear-byols models', files, hf://owner/repo/file,
logmel, crepe, wav2vec2, or any HEAR module (hearbaseline.torchcrepe, my.module:weights.pth). Embeddings and scores are
kept: a run that was killed continues where it was. A model that fails is reported and the others go on.

exit status: 0 all scores are there; 1 some models or tasks failed; 2 nothing could start or be written;
130 interrupted"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = add_command(subparsers, "evaluate", "score models on HEAR tasks", run, _DESCRIPTION)
    add = parser.add_argument
    add("--models", "-m", nargs="+", required=True, metavar="MODEL")
    add("--tasks", "-t", nargs="+", required=True, metavar="DIR", help="task folders, or folders of such")
    add("--output", "-o", required=True, metavar="DIR", help="folder for scores and report")
    text = "linear: a ridge classifier, seconds; mlp: hear-eval-kit's search, minutes to hours (default: linear)"
    add("--probe", choices=("linear", "mlp", "both"), default="linear", help=text)
    add("--seeds", type=int, default=1, metavar="N", help="seeds of the mlp probe (default: 1)")
    add("--grid-points", type=int, default=8, metavar="N", help="of its search (default: 8, the kit's)")
    add("--max-epochs", type=int, default=500, metavar="N", help="of a training (default: 500)")
    text = "embeddings of the mlp probe, by the training rows (default: openSMILE and concatenations)"
    add("--standardize", choices=("auto", "always", "never"), default="auto", help=text)
    add("--cache", metavar="DIR", help="folder for embeddings (default: OUTPUT/embeddings)")
    add_device(parser, quiet="no progress and no table")


def run(args: argparse.Namespace) -> int:
    from hear_byols.evaluation.models import parse_models
    from hear_byols.evaluation.probe import Search
    from hear_byols.evaluation.report import write_report
    from hear_byols.evaluation.run import PROBES, Plan, evaluate
    from hear_byols.evaluation.tasks import find_tasks

    plan = Plan(
        probes=PROBES if args.probe == "both" else (args.probe,),
        seeds=args.seeds,
        search=Search(grid_points=args.grid_points, max_epochs=args.max_epochs),
        standardize=args.standardize,
        device=args.device,
    )
    models, tasks, output = parse_models(args.models), find_tasks(args.tasks), Path(args.output)
    cache = Path(args.cache) if args.cache else None
    outcome = evaluate(models, tasks, output, plan, cache=cache, progress=not args.quiet, log=partial(tell, args))
    summary = write_report(outcome, output, [model.label for model in models])
    for failure in outcome.failures:
        what = f"{failure.model} on {failure.task}" if failure.model else failure.task
        print(f"hear-byols: not evaluated: {what}: {' '.join(failure.reason.split())}", file=sys.stderr)
    if not args.quiet:
        print(summary)
    return 1 if outcome.failures else 0
