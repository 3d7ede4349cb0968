"""``hear-byols detect``: events in recordings of any length, as the label files of people's tools."""

import argparse
import sys
from pathlib import Path

from hear_byols.cli.options import add_command, add_device, print_failures, tell

_DESCRIPTION = """\
Find events in recordings with a classifier that was learnt by 'classify train --events'. Each recording gets a label
file below DIR, called as it is, in every format that is wanted: csv, audacity (labels), raven (selection table),
textgrid (Praat). Hours of audio need no more memory than a minute.

exit status: 0 all recordings were read; 1 some were not; 2 nothing could start or be written"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = add_command(subparsers, "detect", "find events in recordings", run, _DESCRIPTION)
    add = parser.add_argument
    add("classifier", metavar="FILE.hbc")
    add("paths", nargs="+", metavar="PATH", help="audio files or folders")
    add("--output", "-o", required=True, metavar="DIR", help="folder for the label files")
    add("--format", "-f", nargs="+", default=["csv"], choices=("csv", "audacity", "raven", "textgrid"), help="csv")
    add("--model", "-m", default="", help="where the encoder's weights are, if not where they were")
    add_device(parser, quiet="no progress and no summary")


def run(args: argparse.Namespace) -> int:
    from hear_byols._util.progress import progress
    from hear_byols.answers.detector import Detector
    from hear_byols.answers.label_files import SUFFIXES, write_events
    from hear_byols.errors import InputError
    from hear_byols.extraction.files import collect
    from hear_byols.extraction.groups import Failure

    detector = Detector.load(args.classifier, model=args.model, device=args.device)
    files = collect(args.paths)
    n_events, n_failed = 0, 0
    with progress(len(files), "recording", shown=not args.quiet) as advance:
        for file in files:
            try:
                found = detector.detect(file.path)
            except InputError as error:
                n_failed += print_failures([Failure(file.name, str(error))])
                continue
            finally:
                advance(1)
            n_events += len(found.events)
            for form in args.format:
                path = Path(args.output, file.name + SUFFIXES[form])
                write_events(path, form, found.events, found.scores, found.seconds, detector.model.sample_rate / 2)
    done = f"{n_events} events in {len(files) - n_failed} recordings, {n_failed} could not be read"
    tell(args, f"{done}; wrote {args.output}")
    return 1 if n_failed else 0


def run_train(args: argparse.Namespace) -> int:
    from hear_byols._util.tables import one_line
    from hear_byols.answers.detector import Detector
    from hear_byols.answers.event_scores import labelled_recordings

    detector = Detector(args.model, frame_ms=args.frame_ms or 1000, hop_ms=args.hop_ms or 50, device=args.device)
    recordings, without = labelled_recordings(args.source, args.events)
    failures = detector.fit(recordings, progress=not args.quiet)
    detector.save(args.output)
    for name in without:
        print(f"hear-byols: no label file, left out: {one_line(name)}", file=sys.stderr)
    status = print_failures(failures)
    if not args.quiet:
        scores, cutting = detector.scores, detector.artefact.training["cutting"]
        print(
            f"onset F (200 ms) {scores['onset_f']:.1%} +- {scores['spread']:.1%} over {scores['n_folds']} folds of "
            f"{scores['n_recordings']} recordings; precision {scores['precision']:.1%}, recall {scores['recall']:.1%}"
        )
        print(f"median filter {cutting['median_ms']:g} ms, shortest event {cutting['shortest_ms']:g} ms, thresholds:")
        for label, threshold in zip(detector.classes, cutting["thresholds"], strict=True):
            print(f"  {one_line(label)}: {threshold:g} ({detector.artefact.training['events'][label]} events)")
    tell(args, f"wrote {args.output}")
    return status


def run_evaluate(args: argparse.Namespace) -> int:
    from hear_byols._util.tables import write_table
    from hear_byols.answers.detector import Detector
    from hear_byols.answers.event_scores import labelled_recordings, score_detector

    detector = Detector.load(args.classifier, model=args.model, device=args.device)
    recordings, _ = labelled_recordings(args.source, args.events)
    detector.check_labels(event.label for recording in recordings for event in recording.events)
    scores, failures = score_detector(detector, recordings)
    status = print_failures(failures)
    for name, value in scores.items():
        print(f"{name:<36} {value:.4f}")
    if args.output:
        write_table(Path(args.output, "scores.csv"), ["score", "value"], list(scores.items()))
    return status
