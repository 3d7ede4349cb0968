"""The scores of the HEAR benchmark, by the libraries of their fields: scikit-learn, sed_eval and mir_eval.

Scene scores take probabilities and binary targets, [shape=(n_clips, n_labels)] each; they are NaN where they are not
defined, as for a class without positives. Event scores take events by clip.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from hear_byols._util.imports import require
from hear_byols.evaluation.tasks import Event

stats, metrics = (require(name, "evaluation", "eval") for name in ("scipy.stats", "sklearn.metrics"))
Events = Mapping[str, Sequence[Event]]  # by clip
MINIMIZED = frozenset({"segment_1s_er"})


def event_scores(name: str, predicted: Events, reference: Events, vocabulary: Sequence[str]) -> dict[str, float]:
    """A score of :data:`EVENT_SCORES` by its name, and its parts (``<name>_precision`` ...) where it has such."""
    values = EVENT_SCORES[name](predicted, reference, vocabulary)
    return {name: next(iter(values.values())), **{f"{name}_{part}": value for part, value in values.items()}}


def is_part(name: str, names: Iterable[str]) -> bool:
    """Whether a score is a part of another of these, as ``segment_1s_er_error_rate`` is of ``segment_1s_er``."""
    return any(name.startswith(f"{other}_") for other in names if other != name)


def _accuracy(probabilities: np.ndarray, targets: np.ndarray) -> float:
    return float(metrics.accuracy_score(targets.argmax(1), probabilities.argmax(1)))


def _chroma_accuracy(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Octave errors do not count: labels are consecutive semitones."""
    return float(metrics.accuracy_score(targets.argmax(1) % 12, probabilities.argmax(1) % 12))


def _mean_average_precision(probabilities: np.ndarray, targets: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes without positives, which count 0
        return float(metrics.average_precision_score(targets, probabilities, average="macro"))


def _auc_of_classes(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    if not (np.ptp(targets, axis=0) > 0).all():  # a class without positives or without negatives
        return np.full(targets.shape[1], math.nan)
    return np.atleast_1d(metrics.roc_auc_score(targets, probabilities, average=None))


def _aucroc(probabilities: np.ndarray, targets: np.ndarray) -> float:
    return float(_auc_of_classes(probabilities, targets).mean())


def _d_prime(probabilities: np.ndarray, targets: np.ndarray) -> float:
    return float(np.mean(stats.norm.ppf(_auc_of_classes(probabilities, targets)) * math.sqrt(2)))


SCENE_SCORES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "top1_acc": _accuracy,
    "pitch_acc": _accuracy,
    "chroma_acc": _chroma_accuracy,
    "mAP": _mean_average_precision,
    "aucroc": _aucroc,
    "d_prime": _d_prime,
}


def _sed(kind: str, parts: Sequence[str], predicted: Events, reference: Events, vocabulary: Any, **options: Any) -> Any:
    """sed_eval's overall scores, over all clips together."""
    sound_event = require("sed_eval.sound_event", "scoring events", "eval")
    container = require("dcase_util.containers", "scoring events", "eval").MetaDataContainer
    scorer = getattr(sound_event, kind)(event_label_list=list(vocabulary), **options)

    def as_list(events: Sequence[Event], clip: str) -> Any:
        spans = [(event.label, event.start / 1000, event.end / 1000, clip) for event in events]
        names = ("event_label", "event_onset", "event_offset", "file")
        return container([dict(zip(names, span, strict=True)) for span in spans])

    for clip in predicted:
        scorer.evaluate(as_list(reference[clip], clip), as_list(predicted[clip], clip))
    flat = {name: value for group in scorer.results_overall_metrics().values() for name, value in group.items()}
    return {part: float(flat[part]) for part in parts}


def _notes(with_offsets: bool, predicted: Events, reference: Events, vocabulary: Any) -> dict[str, float]:
    """mir_eval's note scores, the mean over clips; labels are MIDI pitches (paper, Table 8; HEAR's MAESTRO)."""
    transcription = require("mir_eval.transcription", "scoring notes", "eval")
    values = []
    for clip in predicted:
        intervals, pitches = zip(*(_as_notes(events[clip]) for events in (reference, predicted)), strict=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of clips without notes, which count 0
            precision, recall, f_measure, _ = transcription.precision_recall_f1_overlap(
                intervals[0], pitches[0], intervals[1], pitches[1], offset_ratio=0.2 if with_offsets else None
            )
        values.append((f_measure, precision, recall))
    means = np.mean(values, axis=0).tolist()
    return dict(zip(("f_measure", "precision", "recall"), means, strict=True))


def _as_notes(events: Sequence[Event]) -> tuple[np.ndarray, np.ndarray]:
    kept = [event for event in events if event.end > event.start]
    intervals = np.array([(event.start / 1000, event.end / 1000) for event in kept]).reshape(-1, 2)
    return intervals, 440 * 2 ** ((np.array([float(event.label) for event in kept]) - 69) / 12)


_F = ("f_measure", "precision", "recall")
_ONSET = {"evaluate_onset": True, "evaluate_offset": False}
_BOTH = {"evaluate_onset": True, "evaluate_offset": True, "percentage_of_length": 0.2}
EVENT_SCORES: dict[str, Callable[[Events, Events, Sequence[str]], dict[str, float]]] = {
    "event_onset_200ms_fms": partial(_sed, "EventBasedMetrics", _F, t_collar=0.2, **_ONSET),
    "event_onset_50ms_fms": partial(_sed, "EventBasedMetrics", _F, t_collar=0.05, **_ONSET),
    "event_onset_offset_50ms_20perc_fms": partial(_sed, "EventBasedMetrics", _F, t_collar=0.05, **_BOTH),
    "segment_1s_er": partial(_sed, "SegmentBasedMetrics", ("error_rate",), time_resolution=1.0),
    "note_onset_50ms_fms": partial(_notes, False),
    "note_onset_offset_50ms_20perc_fms": partial(_notes, True),
}
