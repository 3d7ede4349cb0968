"""A linear head on frozen embeddings: ridge or logistic regression, its strength chosen by grouped cross-validation."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hear_byols._util.imports import require
from hear_byols.errors import OptionError

HEADS = ("ridge", "logistic")
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
MAX_FOLDS = 5
FARTHEST = 10.0  # standard deviations: features that hardly vary in training must not drown the rest elsewhere
_TEMPERATURES = np.geomspace(0.02, 5, 60)


@dataclass(frozen=True)
class Head:
    """Standardization and a linear map, in float32."""

    mean: np.ndarray  # of the training vectors [shape=(size,)]
    scale: np.ndarray  # their standard deviation [shape=(size,)]
    weights: np.ndarray  # [shape=(size, n_classes)]
    bias: np.ndarray  # [shape=(n_classes,)]

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Scores of the classes: [shape=(n, size)] -> float32 [shape=(n, n_classes)]."""
        return ((x - self.mean) / self.scale).clip(-FARTHEST, FARTHEST) @ self.weights + self.bias

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """Probabilities of classes that exclude each other: [shape=(n, size)] -> [shape=(n, n_classes)]."""
        return softmax(self.scores(x))


@dataclass(frozen=True)
class FittedHead:
    """A head and how it did on clips that it had not seen."""

    head: Head  # fitted to all clips; its scores are logits, calibrated on the held-out ones
    kind: str  # "ridge" or "logistic"
    strength: float  # that was chosen
    temperature: float  # that the head's scores were divided by
    held_out: np.ndarray  # probabilities of each clip by a head fitted without its fold [shape=(n, n_classes)]
    folds: np.ndarray  # the fold that each clip was held out in [shape=(n,)]


def fit_head(x: np.ndarray, targets: np.ndarray, groups: Sequence[str] = (), kind: str = "ridge") -> FittedHead:
    """Fit a head by cross-validation in up to five folds, and once more to all clips.

    The strength of the final head is the one whose held-out accuracy is best. The probabilities of a held-out clip are
    those of the strength that is best on the other folds, so that no fold chooses its own.

    Args:
        x: vectors, float32 [shape=(n, size)].
        targets: classes as 0 ... n_classes - 1 [shape=(n,)].
        groups: clips of one group stay on one side of every fold; empty if each clip is its own. Every class has clips
            of at least two.
        kind: ``"ridge"`` (on targets of -1 and 1; in closed form, the faster) or ``"logistic"``.

    Raises:
        OptionError: an unknown kind.
        MissingDependencyError: scikit-learn is not installed.
    """
    if kind not in HEADS:
        raise OptionError(f"the head must be one of {', '.join(HEADS)}; got {kind!r}")
    n_classes = int(targets.max()) + 1
    folds = make_folds(targets, groups)
    held_out = held_out_scores(lambda own: _fit_all(x[own], targets[own], n_classes, kind, STRENGTHS), x, folds)
    right = held_out.argmax(-1) == targets  # [shape=(n_strengths, n)]
    others = [_best(right[:, folds != fold]) for fold in range(folds.max() + 1)]
    mixed = held_out[np.array(others)[folds], np.arange(len(x))]
    chosen = _best(right)
    temperature = fit_temperature(held_out[chosen], targets)
    head = refit(x, targets, n_classes, kind, STRENGTHS[chosen], temperature)
    return FittedHead(head, kind, STRENGTHS[chosen], temperature, softmax(mixed / temperature), folds)


def refit(x: np.ndarray, targets: np.ndarray, n_classes: int, kind: str, strength: float, temperature: float) -> Head:
    """Fit a head whose strength and temperature are known; arguments as of :func:`fit_head` and :class:`FittedHead`."""
    (head,) = _fit_all(x, targets, n_classes, kind, (strength,))
    return cooled(head, temperature)


def cooled(head: Head, temperature: float) -> Head:
    """A head with scores divided by a temperature."""
    return replace(head, weights=head.weights / temperature, bias=head.bias / temperature)


def held_out_scores(fit: Callable[[np.ndarray], Iterable[Head]], x: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Scores of each row by heads that were fitted without its fold [shape=(n_heads, n, n_classes)].

    ``fit`` gives heads that are fitted to some rows of ``x``, those that are True [shape=(n,)].
    """
    order = np.argsort(folds, kind="stable")
    parts = [[head.scores(x[folds == fold]) for head in fit(folds != fold)] for fold in np.unique(folds)]
    held_out = np.empty((len(parts[0]), len(x), parts[0][0].shape[1]), np.float32)
    held_out[:, order] = np.concatenate(parts, axis=1)
    return held_out


def make_folds(targets: np.ndarray, groups: Sequence[str] = ()) -> np.ndarray:
    """Deal clips into up to five folds that hold every class in its share and no group twice [shape=(n,)]."""
    selection = require("sklearn.model_selection", "cross-validation", "classify")
    owners = np.asarray(groups if len(groups) else range(len(targets)))
    counts = [len(set(owners[targets == each])) for each in range(targets.max() + 1)]
    make = selection.StratifiedGroupKFold if len(groups) else selection.StratifiedKFold
    deal = make(min(MAX_FOLDS, *counts), shuffle=True, random_state=0)
    folds = np.zeros(len(targets), np.int64)
    for fold, (_, test) in enumerate(deal.split(folds, targets, owners if len(groups) else None)):
        folds[test] = fold
    return folds


def fit_ridge(x: np.ndarray, targets: np.ndarray, strengths: Sequence[float]) -> Iterator[Head]:
    """Ridge regression on standardized vectors, in closed form, for every strength (times the number of features).

    Vectors [shape=(n, size)] and targets [shape=(n, n_classes)]; all strengths together cost one decomposition.
    """
    mean, scale, z = _standardized(x)
    offset = targets.mean(0)
    dual = len(z) < z.shape[1]
    values, vectors = np.linalg.eigh((z @ z.T if dual else z.T @ z).astype(np.float64))
    projected = vectors.T @ ((targets - offset) if dual else z.T @ (targets - offset))
    for strength in strengths:
        solution = vectors @ (projected / (values.clip(0) + strength * z.shape[1])[:, None])
        weights = z.T @ solution if dual else solution
        # Standardized features are clipped, so their means are not exactly 0.
        bias = offset - z.mean(0) @ weights
        yield Head(mean, scale, weights.astype(np.float32), bias.astype(np.float32))


def softmax(scores: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, float32."""
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return (powers / powers.sum(-1, keepdims=True)).astype(np.float32)


def _fit_all(
    x: np.ndarray, targets: np.ndarray, n_classes: int, kind: str, strengths: Sequence[float]
) -> Iterator[Head]:
    if kind == "logistic":
        return _fit_logistic(x, targets, n_classes, strengths)
    return fit_ridge(x, 2.0 * np.eye(n_classes)[targets] - 1, strengths)


def _fit_logistic(x: np.ndarray, targets: np.ndarray, n_classes: int, strengths: Sequence[float]) -> Iterator[Head]:
    """scikit-learn's multinomial logistic regression; where there are fewer clips than features, in their own space.

    A penalty on the squared weights has its best weights in the span of the clips, so a rotation into it is exact.
    """
    linear = require("sklearn.linear_model", "a logistic head", "classify")
    mean, scale, z = _standardized(x)
    basis = np.linalg.svd(z, full_matrices=False)[2].T if len(z) < z.shape[1] else None
    coordinates = z if basis is None else z @ basis
    for strength in strengths:
        found = linear.LogisticRegression(C=strength, max_iter=1000).fit(coordinates, targets)
        pair = len(found.classes_) == 2  # one row of weights for the second class; the first has zeros
        own = np.concatenate([np.zeros_like(found.coef_), found.coef_]) if pair else found.coef_
        bias = np.full(n_classes, -1e3)  # of a class that these folds lack
        bias[found.classes_] = [0, found.intercept_[0]] if pair else found.intercept_
        weights = np.zeros((coordinates.shape[1], n_classes))
        weights[:, found.classes_] = own.T
        full = weights if basis is None else basis @ weights
        yield Head(mean, scale, full.astype(np.float32), bias.astype(np.float32))


def _standardized(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and scale of training vectors, and the vectors as a head sees them."""
    mean = x.mean(0, dtype=np.float64).astype(np.float32)
    scale = (x.std(0, dtype=np.float64) + 1e-6).astype(np.float32)
    return mean, scale, ((x - mean) / scale).clip(-FARTHEST, FARTHEST)


def _best(right: np.ndarray) -> int:
    """The strength that is right most often; of equals, the middle one [shape=(n_strengths, n)]."""
    counts = right.sum(1)
    equals = np.flatnonzero(counts == counts.max())
    return int(equals[len(equals) // 2])


def fit_temperature(scores: np.ndarray, targets: np.ndarray) -> float:
    """What scores are divided by, so that their softmax fits held-out clips best (Guo et al. 2017).

    Of n clips that are all told right one in n + 2 might yet have been wrong (Platt 1999), so few make nothing certain.
    """
    n, n_classes = scores.shape
    aims = np.full(scores.shape, 1 / (n + 2) / (n_classes - 1))
    aims[np.arange(n), targets] = 1 - 1 / (n + 2)

    def loss(temperature: float) -> float:
        return -float((aims * np.log(softmax(scores / temperature).clip(1e-12))).sum())

    return float(min(_TEMPERATURES, key=loss))
