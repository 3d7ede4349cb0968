"""A detector of events in time: a frozen encoder over windows, a ridge head, and how its scores become events."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from hear_byols._util.progress import progress as progress_of
from hear_byols.answers.artefact import Artefact
from hear_byols.answers.cutting import Cutting, choose_cutting, cut
from hear_byols.answers.head import MAX_FOLDS, STRENGTHS, fit_ridge, held_out_scores
from hear_byols.answers.learner import Learner
from hear_byols.audio import stream_audio
from hear_byols.errors import InputError, OptionError
from hear_byols.evaluation.tasks import Event
from hear_byols.extraction.files import PathLike
from hear_byols.extraction.groups import Failure
from hear_byols.interface import AudioModel

STRETCH_S = 60  # of audio that is embedded at a time; the last stretch may be half as long again


@dataclass(frozen=True)
class Found:
    """The events of a recording."""

    events: tuple[Event, ...]  # in order of their starts, in milliseconds
    scores: tuple[float, ...]  # of the events, 0 to 1: the mean over their windows
    seconds: float  # length of the recording


@dataclass(frozen=True)
class LabelledRecording:
    """A recording with the events in it."""

    path: Path
    events: Sequence[Event]


class Detector(Learner):
    """Find events of some classes in recordings of any length.

    A recording is embedded in stretches of a minute, each normalized by itself, so hours of audio need no more memory
    than a minute.

    Args:
        model: what ``hear_byols.load_model`` takes, by default the default model; or a fine-tuned classifier's file.
        frame_ms: window of the embeddings.
        hop_ms: distance of two windows.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` ...
    """

    KIND = "events"
    ELSE = "labels whole clips; use 'hear-byols classify predict' or Classifier.load"

    def __init__(
        self, model: PathLike = "", *, frame_ms: float = 1000, hop_ms: float = 50, device: str = "auto"
    ) -> None:
        super().__init__(model, {"frame_ms": frame_ms, "hop_ms": hop_ms}, device)

    def fit(self, recordings: Sequence[LabelledRecording], *, progress: bool = False) -> tuple[Failure, ...]:
        """Learn from recordings in which all events are labelled; :attr:`scores` says how held-out ones did.

        Strength, median filter, thresholds and shortest duration are chosen on held-out recordings, in up to five
        folds. The windows of all recordings are held in memory: about 1 GB an hour at 50 ms.

        Returns:
            Recordings that could not be read; the others were learnt from.

        Raises:
            OptionError: fewer than two readable recordings, or no events.
        """
        times, vectors, kept, failures = [], [], [], []
        with progress_of(len(recordings), "recording", shown=progress) as advance:
            for recording in recordings:
                try:
                    stamps, rows = map(np.concatenate, zip(*windows(recording.path, self.model), strict=True))
                    times.append(stamps)
                    vectors.append(rows)
                    kept.append(recording)
                except InputError as error:
                    failures.append(Failure(recording.path.name, str(error)))
                advance(1)
        classes = tuple(sorted({event.label for recording in kept for event in recording.events}))
        if len(kept) < 2 or not classes:
            raise OptionError(
                f"at least two readable recordings with labelled events are needed, got {len(kept)} with the labels "
                f"{list(classes)}"
            )
        x = np.concatenate(vectors)
        vectors.clear()
        self._learn(x, times, [recording.events for recording in kept], classes)
        return tuple(failures)

    def _learn(
        self, x: np.ndarray, times: list[np.ndarray], references: list[Sequence[Event]], classes: tuple[str, ...]
    ) -> None:
        """Fit to vectors of all recordings [shape=(n_windows, size)], given the times and events of each."""
        labelled = zip(references, times, strict=True)
        y = np.concatenate([2 * targets_of(events, stamps, classes) - 1 for events, stamps in labelled])
        lengths = list(map(len, times))
        folds = np.arange(len(times)) % min(MAX_FOLDS, len(times))
        owners = np.repeat(folds, lengths)
        held_out = held_out_scores(lambda own: fit_ridge(x[own], y[own], STRENGTHS), x, owners)
        chosen = int(((held_out - y) ** 2).mean((1, 2)).argmin())
        (head,) = fit_ridge(x, y, STRENGTHS[chosen : chosen + 1])
        probabilities = np.split((held_out[chosen] + 1) / 2, np.cumsum(lengths)[:-1])
        cutting, scores = choose_cutting(probabilities, times, references, classes, folds)
        training = {
            "head": "ridge",
            "strength": STRENGTHS[chosen],
            "recordings": len(times),
            "events": {label: sum(e.label == label for events in references for e in events) for label in classes},
            "stretch_s": STRETCH_S,
            "cutting": asdict(cutting),
            "scores": scores,
        }
        self._artefact = Artefact(self.KIND, classes, head, self._settings(True, {}), training, self._encoder)

    def probabilities(self, path: PathLike) -> tuple[np.ndarray, np.ndarray]:
        """Times of the windows in ms [shape=(n,)], and scores of the classes, about 0 to 1 [shape=(n, n_classes)]."""
        head = self.artefact.head
        parts = [(times, (head.scores(vectors) + 1) / 2) for times, vectors in windows(path, self.model)]
        times, values = map(np.concatenate, zip(*parts, strict=True))
        return times, values

    def detect(self, path: PathLike) -> Found:
        """Find the events of a recording.

        Raises:
            InputError: the file cannot be read.
        """
        return self.cut(*self.probabilities(path))

    def cut(self, times: np.ndarray, values: np.ndarray) -> Found:
        """The events in what :meth:`probabilities` gave."""
        hop_ms = float(self.artefact.settings["hop_ms"])  # a window speaks for the time until the next
        cutting = Cutting.from_dict(self.artefact.training["cutting"])
        events, scores = [], []
        for event in cut(values, times, cutting, self.classes):
            inside = (times >= event.start) & (times <= event.end)
            scores.append(float(values[inside, self.classes.index(event.label)].mean().clip(0, 1)))
            events.append(replace(event, end=event.end + hop_ms))
        return Found(tuple(events), tuple(scores), (float(times[-1]) + hop_ms) / 1000)


def windows(path: PathLike, model: AudioModel) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield centres of windows in ms [shape=(n,)], and their vectors [shape=(n, size)], stretch by stretch.

    Besides a stretch nothing is held. Every window is there once, and hears the audio on both sides of it; a stretch is
    normalized by itself.
    """
    framing = model.framing
    hop: Fraction = framing.hop_samples
    margin = -(-framing.frame_samples // (2 * hop))  # windows from which on a window lies wholly in the stretch
    n_stretch = max(1, round(STRETCH_S * model.sample_rate / hop))
    source = stream_audio(path, model.sample_rate)
    held, start, first, total = np.empty(0, np.float32), 0, 0, None
    while total is None or first < framing.n_windows(total):
        most = first + n_stretch + n_stretch // 2  # so much is known ahead that no short stretch is left for the end
        while total is None and start + len(held) <= int((most + margin) * hop):
            block = next(source, None)
            if block is None:
                total = start + len(held)
            else:
                held = np.concatenate([held, block])
        last = framing.n_windows(total) if total is not None else most + 1
        stop = last if last <= most else first + n_stretch
        before = max(0, first - margin)
        begin, end = round(before * hop), round((stop - 1 + margin) * hop) + 1
        vectors = model.timestamp_embeddings(held[None, begin - start : end - start])[0][0].cpu().numpy()
        yield np.arange(first, stop) * framing.hop_ms, vectors[first - before : stop - before]
        first = stop
        keep = min(max(start, round(max(0, first - margin) * hop)), start + len(held))
        held, start = held[keep - start :], keep


def targets_of(events: Sequence[Event], times: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Which classes' events hold at each time in ms, float32 [shape=(n_times, n_classes)]."""
    targets = np.zeros((len(times), len(classes)), np.float32)
    for event in events:
        targets[(times >= event.start) & (times <= event.end), classes.index(event.label)] = 1
    return targets
