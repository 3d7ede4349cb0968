"""``hear-byols classify``: from labelled clips to a classifier in one file, and from that to labels."""

import argparse
from pathlib import Path

from hear_byols.cli.options import MODEL_HELP, add_command, add_device, print_failures, tell

_TRAIN = """\
Learn a classifier from labelled audio: a folder with a sub-folder for each class, a table (CSV) path,label[,group], or
an output folder of 'embed'. The encoder stays as it is; a linear head is fitted to its vectors and tested on clips that
it was not fitted to, in five folds. Clips of one group are never on both sides of a test. With --fine-tune the encoder
is trained further, too; that is kept if it does better on a fifth of the clips that it was not trained on. With
--events, events in time are learnt instead, for 'detect', from label files of Audacity, Raven, Praat or CSV, called as
the recordings in FOLDER.

OUTPUT is one file that 'predict' runs anywhere; beside it, NAME.report holds the confusion matrix (table and picture),
all clips with the worst first, and the files that could not be read.

exit status: 0 all files were read; 1 some were not; 2 nothing could be learnt or written"""
_PREDICT = """\
Label audio files, all audio in folders, or one output folder of 'embed' made by the same model. The table has a row for
every file, also for those that cannot be read.

exit status: 0 all files were labelled; 1 some were not; 2 nothing could start or be written"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "classify", help="learn to label clips, and label them", description="Learn, run and test classifiers of clips."
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    train = add_command(actions, "train", "learn a classifier from labelled clips", _run_train, _TRAIN)
    predict = add_command(actions, "predict", "label clips", _run_predict, _PREDICT)
    evaluate = add_command(actions, "evaluate", "test a classifier on other labelled clips", _run_evaluate)
    for action in (train, predict, evaluate):
        add_device(action, quiet="no progress and no summary")
    add = train.add_argument
    add("source", metavar="FOLDER_OR_CSV", help="labelled audio, or an output folder of 'embed'")
    add("--output", "-o", required=True, metavar="FILE", help="the classifier: NAME.hbc")
    add("--labels", "-l", metavar="CSV", help="table path,label[,group] for the files of the folder")
    add("--events", "-e", metavar="DIR", help="folder of label files: learn events in time")
    add("--head", choices=("ridge", "logistic"), default="ridge", help="default: ridge")
    epochs = {"type": int, "nargs": "?", "const": 10, "default": 0, "metavar": "EPOCHS"}
    add("--fine-tune", **epochs, help="train the encoder, too (10)")
    add("--model", "-m", default="", help=MODEL_HELP)
    add("--frame-ms", type=float, metavar="MS", help="of --events: window (default: 1000)")
    add("--hop-ms", type=float, metavar="MS", help="of --events: distance of windows (default: 50)")

    add = predict.add_argument
    add("classifier", metavar="FILE.hbc")
    add("paths", nargs="+", metavar="PATH", help="audio, folders, or an output folder of 'embed'")
    add("--output", "-o", required=True, metavar="CSV", help="path,label,probability,error, classes")
    add("--model", "-m", default="", help="where the encoder's weights are, if not where they were")

    add = evaluate.add_argument
    add("classifier", metavar="FILE.hbc")
    add("source", metavar="FOLDER_OR_CSV", help="as of train")
    add("--labels", "-l", metavar="CSV", help="as of train")
    add("--events", "-e", metavar="DIR", help="label files, for a classifier of events")
    add("--output", "-o", metavar="DIR", help="folder for the report")
    add("--model", "-m", default="", help="as of predict")


def _run_train(args: argparse.Namespace) -> int:
    from hear_byols._util.imports import require
    from hear_byols.answers.artefact import check_name
    from hear_byols.answers.classifier import Classifier
    from hear_byols.answers.examples import labelled_clips
    from hear_byols.answers.report import write_report
    from hear_byols.errors import OptionError

    output = check_name(args.output)
    require("sklearn", "classify train", "classify")
    require("matplotlib", "classify train", "classify")
    if args.events and args.fine_tune:
        raise OptionError("--fine-tune is for clips; then give the classifier's file as --model of --events")
    if args.events:
        from hear_byols.cli.detect import run_train

        return run_train(args)
    if args.frame_ms or args.hop_ms:
        raise OptionError("--frame-ms and --hop-ms belong to --events")
    classifier = Classifier(args.model, head=args.head, fine_tune=args.fine_tune, device=args.device)
    clips = labelled_clips(args.source, lambda: classifier.model, args.labels, not args.quiet)
    classifier.fit_clips(clips, progress=not args.quiet)
    classifier.save(output)
    report = output.with_suffix(".report")
    write_report(classifier.assessment, report, clips.failures)
    status = print_failures(clips.failures)
    tuned = classifier.artefact.training.get("fine_tuned")
    if tuned:
        print(
            f"fine-tuned {tuned['accuracy']:.1%}, frozen {tuned['accuracy_frozen']:.1%} of {tuned['n_held_out']} "
            f"held-out clips: the {'fine-tuned' if tuned['kept'] else 'frozen'} encoder is kept"
        )
    if not args.quiet:
        print(classifier.assessment.summary())
    tell(args, f"wrote {output} and {report}")
    return status


def _run_predict(args: argparse.Namespace) -> int:
    from hear_byols._util.tables import write_table
    from hear_byols.answers.classifier import Classifier
    from hear_byols.answers.examples import clips_to_judge

    classifier = Classifier.load(args.classifier, model=args.model, device=args.device)
    clips = clips_to_judge(args.paths, lambda: classifier.model, not args.quiet)
    probabilities = classifier.judge(clips)
    guesses = probabilities.argmax(1)
    rows = [
        [name, classifier.classes[guess], round(float(row[guess]), 4), None, *(round(float(value), 4) for value in row)]
        for name, guess, row in zip(clips.names, guesses, probabilities, strict=True)
    ]
    rows += [[each.name, None, None, each.reason] for each in clips.failures]
    write_table(Path(args.output), ["path", "label", "probability", "error", *classifier.classes], rows)
    status = print_failures(clips.failures)
    tell(args, f"labelled {len(clips.names)} files, {len(clips.failures)} could not be; wrote {args.output}")
    return status


def _run_evaluate(args: argparse.Namespace) -> int:
    import numpy as np

    from hear_byols.answers.classifier import Classifier
    from hear_byols.answers.examples import labelled_clips
    from hear_byols.answers.report import Assessment, write_report

    if args.events:
        from hear_byols.cli.detect import run_evaluate

        return run_evaluate(args)
    classifier = Classifier.load(args.classifier, model=args.model, device=args.device)
    clips = labelled_clips(args.source, lambda: classifier.model, args.labels, not args.quiet)
    classifier.check_labels(clips.labels)
    targets = np.array([classifier.classes.index(label) for label in clips.labels])
    folds = np.zeros(len(targets), int)
    assessment = Assessment(classifier.classes, clips.names, targets, classifier.judge(clips), folds)
    if args.output:
        write_report(assessment, Path(args.output), clips.failures)
    status = print_failures(clips.failures)
    print(assessment.summary())
    return status
