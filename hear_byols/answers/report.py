"""What a classifier is worth: accuracy, confusions and the clips it is most wrong about, as text and tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from hear_byols._util.tables import one_line, write_table
from hear_byols.analysis.figures import new_figure, printable, save_figure
from hear_byols.extraction.groups import Failure

_MAX_NUMBERED = 30  # classes up to which cells show their counts


@dataclass(frozen=True)
class Assessment:
    """Labels beside what a classifier said.

    Args:
        classes: at their columns [n_classes].
        names: of the clips.
        targets: their classes by index [shape=(n,)].
        probabilities: of the classes [shape=(n, n_classes)].
        folds: in which each clip was held out; all 0 where there was one test [shape=(n,)].
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    targets: np.ndarray
    probabilities: np.ndarray
    folds: np.ndarray

    @property
    def confusion(self) -> np.ndarray:
        """How many clips of each class (row) were given each class (column)."""
        counts = np.zeros((len(self.classes),) * 2, np.int64)
        np.add.at(counts, (self.targets, self.probabilities.argmax(1)), 1)
        return counts

    def scores(self) -> dict[str, float | int | None]:
        """Accuracy, its spread over the folds (None for a single test), the mean recall of the classes, and counts."""
        right = self.probabilities.argmax(1) == self.targets
        folds = [right[self.folds == fold].mean() for fold in np.unique(self.folds)]
        present = np.unique(self.targets)
        return {
            "accuracy": float(right.mean()),
            "spread": float(np.std(folds)) if len(folds) > 1 else None,
            "mean_recall": float(np.mean([right[self.targets == each].mean() for each in present])),
            "n_clips": len(self.names),
            "n_folds": len(folds),
        }

    def clips(self) -> Iterator[tuple[str, str, str, float, float, int]]:
        """Yield name, label, predicted class, the probabilities of both, and fold; the least probable labels first."""
        guesses, numbers = self.probabilities.argmax(1), np.arange(len(self.targets))
        of_label, of_guess = self.probabilities[numbers, self.targets], self.probabilities[numbers, guesses]
        for i in np.argsort(of_label, kind="stable"):
            label, guess = self.classes[self.targets[i]], self.classes[guesses[i]]
            yield self.names[i], label, guess, float(of_label[i]), float(of_guess[i]), int(self.folds[i])

    def summary(self, n_worst: int = 5) -> str:
        """Some lines for a terminal."""
        scores = self.scores()
        spread = "" if scores["spread"] is None else f" +- {scores['spread']:.1%} over {scores['n_folds']} folds"
        lines = [
            f"accuracy {scores['accuracy']:.1%}{spread}, mean recall of the classes {scores['mean_recall']:.1%}, "
            f"{scores['n_clips']} clips"
        ]
        for name, label, guess, _, sure, _ in islice((clip for clip in self.clips() if clip[1] != clip[2]), n_worst):
            lines.append(f"  worst: {one_line(name)}: {one_line(label)} taken for {one_line(guess)} ({sure:.0%})")
        return "\n".join(lines)


def write_report(assessment: Assessment, folder: Path, failures: Sequence[Failure] = ()) -> None:
    """Write ``confusion.csv``, ``confusion.png``, ``clips.csv`` (the worst first) and ``failures.csv``.

    Raises:
        OutputError: a file cannot be written.
        MissingDependencyError: matplotlib is not installed.
    """
    classes, confusion = assessment.classes, assessment.confusion
    rows = [[label, *map(int, row)] for label, row in zip(classes, confusion, strict=True)]
    write_table(folder / "confusion.csv", ["label", *classes], rows)
    header = ["path", "label", "predicted", "probability_of_label", "probability_of_predicted", "fold"]
    clips = [[*texts, round(p, 4), round(q, 4), fold] for *texts, p, q, fold in assessment.clips()]
    write_table(folder / "clips.csv", header, clips)
    write_table(folder / "failures.csv", ["path", "reason"], [[each.name, each.reason] for each in failures])
    _draw(confusion, classes, folder / "confusion.png")


def _draw(confusion: np.ndarray, classes: Sequence[str], path: Path) -> None:
    n = len(classes)
    figure = new_figure(max(4.0, 0.4 * n + 2.5), max(3.5, 0.4 * n + 2))
    axes = figure.add_subplot()
    shares = confusion / confusion.sum(1, keepdims=True).clip(1)
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    labels = [printable(label, 30) for label in classes]
    for ticks in (axes.set_xticks, axes.set_yticks):
        ticks(range(n), labels, fontsize=8, parse_math=False)
    axes.tick_params(axis="x", rotation=90)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    if n <= _MAX_NUMBERED:
        for (row, column), count in np.ndenumerate(confusion):
            if count:
                colour = "white" if shares[row, column] > 0.6 else "black"
                axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(image, ax=axes, label="share of the label's clips", shrink=0.8)
    save_figure(figure, path)
