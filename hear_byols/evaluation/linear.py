"""The fast probe for daily use: ridge regression on standardized embeddings, in closed form, without randomness.

Targets are -1 and +1. The strength (0.01 ... 100, times the number of features) is chosen on the validation rows by the
task's own criterion.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hear_byols.evaluation.rows import Rows, Standardizer
from hear_byols.evaluation.scientific import linalg

STRENGTHS = (1e-2, 1e-1, 1.0, 10.0, 100.0)

Predict = Callable[[np.ndarray], np.ndarray]


def fit_ridge(train: Rows, choose: Callable[[Predict], float]) -> tuple[Predict, float]:
    """Fit for every strength and keep the one that is best.

    Args:
        train: rows.
        choose: from a fitted predictor, which gives probabilities [shape=(n_rows, n_labels)] of embeddings
            [shape=(n_rows, size)], to its score on the validation rows, the higher the better.

    Returns:
        The best predictor, and its strength; of equals the weakest.
    """
    standardize = Standardizer(train.x)
    z = standardize(train.x)
    targets = train.y.astype(np.float64) * 2 - 1
    offset = targets.mean(0)
    n_rows, size = z.shape
    dual = n_rows < size
    gram = z @ z.T if dual else z.T @ z
    right = targets - offset if dual else z.T @ (targets - offset)
    fits = []
    for strength in STRENGTHS:
        solution = _solve(gram, strength * size, right)
        weights = z.T @ solution if dual else solution
        predict = _predictor(standardize, weights, offset)
        fits.append((choose(predict), predict, strength))
    _, predict, strength = max(fits, key=lambda fit: fit[0])  # of equals the first
    return predict, strength


def _solve(gram: np.ndarray, ridge: float, right: np.ndarray) -> np.ndarray:
    matrix = gram.copy()
    matrix[np.diag_indices_from(matrix)] += ridge
    return linalg.solve(matrix, right, assume_a="pos", overwrite_a=True)


def _predictor(standardize: Standardizer, weights: np.ndarray, offset: np.ndarray) -> Predict:
    return lambda x: ((standardize(x) @ weights + offset) + 1) / 2
