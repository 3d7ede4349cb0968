"""How good a detector is on labelled recordings, by the libraries of the field: sed_eval and sed_scores_eval."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hear_byols._util.imports import require
from hear_byols.answers.detector import Detector, LabelledRecording
from hear_byols.answers.label_files import find_label_file, read_events
from hear_byols.errors import InputError, OptionError
from hear_byols.evaluation.scores import event_scores
from hear_byols.extraction.files import PathLike, collect
from hear_byols.extraction.groups import Failure

# DCASE's two scenarios: exact times, and no confusion of classes (Ebbers, Serizel, Haeb-Umbach 2022).
_PSDS: dict[str, dict[str, Any]] = {
    "psds1": {"dtc_threshold": 0.7, "gtc_threshold": 0.7},
    "psds2": {"dtc_threshold": 0.1, "gtc_threshold": 0.1, "cttc_threshold": 0.3, "alpha_ct": 0.5},
}


def labelled_recordings(audio: PathLike, labels: PathLike) -> tuple[list[LabelledRecording], tuple[str, ...]]:
    """Recordings of a folder that have a label file, an empty one included, and the names of the others.

    Raises:
        OptionError: no recording has one.
        InputError: a label file cannot be read.
    """
    found, without = [], []
    for file in collect([audio]):
        path = find_label_file(labels, file.path)
        if path is None:
            without.append(file.name)
        else:
            found.append(LabelledRecording(file.path, read_events(path)))
    if not found:
        raise OptionError(
            f"none of the {len(without)} recordings has a label file in {labels}; {without[0]!r} would have "
            f"{Path(without[0]).stem}.txt (Audacity, Raven), .csv or .TextGrid"
        )
    return found, tuple(without)


def score_detector(
    detector: Detector, recordings: Sequence[LabelledRecording]
) -> tuple[dict[str, float], tuple[Failure, ...]]:
    """Onset F (200 ms) and segment error rate by sed_eval, and PSDS by sed_scores_eval; and what could not be read.

    Args:
        detector: that did not learn from these.
        recordings: in which all events are labelled.

    Raises:
        InputError: none of them can be read.
        MissingDependencyError: sed_eval or sed_scores_eval is not installed.
    """
    psds = require("sed_scores_eval.intersection_based", "PSDS", "eval").psds
    make_frame = require("sed_scores_eval.base_modules.scores", "PSDS", "eval").create_score_dataframe
    there = {event.label for recording in recordings for event in recording.events}
    kept = [i for i, label in enumerate(detector.classes) if label in there]  # PSDS is a mean over classes with events
    predicted, reference, frames, seconds, failures = {}, {}, {}, {}, []
    for recording in recordings:
        name = str(recording.path)
        try:
            times, values = detector.probabilities(recording.path)
        except InputError as error:
            failures.append(Failure(name, str(error)))
            continue
        found = detector.cut(times, values)
        predicted[name], reference[name] = list(found.events), list(recording.events)
        edges = np.append(times, times[-1] + detector.model.framing.hop_ms) / 1000
        frames[name] = _writable(make_frame(values[:, kept], edges, [detector.classes[i] for i in kept]))
        seconds[name] = float(edges[-1])
    if not predicted:
        raise InputError(f"none of the {len(recordings)} recordings can be read; {failures[0].reason}")
    scores: dict[str, float] = {}
    for name in ("event_onset_200ms_fms", "segment_1s_er"):
        scores.update(event_scores(name, predicted, reference, detector.classes))
    truth = {name: [(e.start / 1000, e.end / 1000, e.label) for e in events] for name, events in reference.items()}
    for name, scenario in _PSDS.items() if kept else ():
        scores[name] = float(psds(frames, truth, seconds, alpha_st=1, max_efpr=100, **scenario)[0])
    return scores, tuple(failures)


def _writable(frame: Any) -> Any:
    """A data frame whose arrays can be written, as sed_scores_eval 0.0.4 needs and pandas from 3.0 on does not give."""
    pandas = require("pandas", "PSDS", "eval")

    class Writable(pandas.DataFrame):
        _constructor = property(lambda self: Writable)

        def to_numpy(self, *args: Any, **options: Any) -> np.ndarray:
            return np.array(super().to_numpy(*args, **options))

    return Writable(frame)
