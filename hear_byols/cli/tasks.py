"""``hear-byols tasks``: check, resample and make task folders in HEAR format."""

import argparse
import sys
from pathlib import Path

from hear_byols.cli.options import add_command

_CHECK = "Check format, labels, audio and splits. Exit status: 0 nothing found, 1 something is wrong."
_RESAMPLE = "Resample as torchaudio does, as in the paper. A run that was killed continues where it was."
_SYNTHESIZE = """\
office: sounds over a background, after DCASE 2016 task 2. notes: notes to transcribe, after MAESTRO. Sounds are the
clips of a scene task (--sources), or are made."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "tasks", help="check, resample and make HEAR tasks", description="Work on task folders in HEAR format."
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    text = "list everything that is wrong with task folders"
    add = add_command(actions, "check", text, run_check, _CHECK).add_argument
    add("tasks", nargs="+", metavar="DIR", help="task folder, or folder of such")
    add("--rate", type=int, metavar="HZ", help="check this rate's audio (default: every rate there)")

    add = add_command(actions, "resample", "make the 16 kHz version of a task", run_resample, _RESAMPLE).add_argument
    add("tasks", nargs="+", metavar="DIR", help="task folder, or folder of such")
    add("--rate", type=int, default=16000, metavar="HZ", help="wanted rate (default: 16000)")
    add("--from-rate", type=int, metavar="HZ", help="rate to start from (default: the highest)")
    add("--output", "-o", metavar="DIR", help="folder for the results (default: in place)")
    add("--quiet", "-q", action="store_true", help="no progress bar and no summary")

    text = "mix an event task from isolated sounds"
    add = add_command(actions, "synthesize", text, run_synthesize, _SYNTHESIZE).add_argument
    add("kind", choices=("office", "notes"))
    add("--output", "-o", required=True, metavar="DIR", help="folder for the task's folder")
    add("--sources", metavar="DIR", help="scene task whose clips are mixed, at 16 kHz")
    add("--seed", type=int, default=0, help="default: %(default)s")
    text = "default: 24 8 16"
    add("--clips", dest="n_clips", type=int, nargs=3, metavar=("TRAIN", "VALID", "TEST"), help=text)
    add("--seconds", dest="clip_seconds", type=float, metavar="S", help="length of a clip (default: 20)")
    add("--level-db", type=float, nargs="+", metavar="DB", help="events over background")
    add("--density", dest="events_per_second", type=float, nargs="+", metavar="N", help="events a second")
    add("--overlap", type=float, metavar="SHARE", help="of clips whose events may overlap")


def run_check(args: argparse.Namespace) -> int:
    from hear_byols.evaluation.checks import check_task
    from hear_byols.evaluation.tasks import find_tasks

    n_findings = 0
    for folder in find_tasks(args.tasks):
        findings = check_task(folder, args.rate)
        for finding in findings:
            print(f"{folder.name}: {finding}")
        print(f"{folder.name}: {len(findings) or 'no'} finding{'s' * (len(findings) != 1)}")
        n_findings += len(findings)
    return 1 if n_findings else 0


def run_resample(args: argparse.Namespace) -> int:
    from hear_byols.evaluation.resampling import resample_task
    from hear_byols.evaluation.tasks import find_tasks

    status = 0
    for folder in find_tasks(args.tasks):
        output = Path(args.output) / folder.name if args.output else None
        done = resample_task(folder, args.rate, source_rate=args.from_rate, output=output, progress=not args.quiet)
        for failure in done.failures:
            print(f"hear-byols: not resampled: {failure}", file=sys.stderr)
            status = 1
        if not args.quiet:
            print(f"{done.folder}: {done.n_written} files at {args.rate} Hz, {done.n_present} were there already")
    return status


def run_synthesize(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from hear_byols.evaluation.synthesis import SYNTHESES, synthesize

    names = ("seed", "n_clips", "clip_seconds", "level_db", "events_per_second", "overlap")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    config = replace(SYNTHESES[args.kind], **given)
    print(synthesize(args.output, config, source=args.sources))
    return 0
