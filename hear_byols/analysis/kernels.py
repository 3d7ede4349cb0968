"""Gram matrices, the unbiased HSIC estimator and CKA (Kornblith et al. 2019; Song et al. 2012), in double precision."""

import torch
from torch import Tensor

from hear_byols.errors import OptionError

KERNELS = ("linear", "rbf")
MIN_EXAMPLES = 4  # of the unbiased estimator
_BLOCK = 8192  # features that are held in double precision at a time


def linear_gram(activations: Tensor) -> Tensor:
    """Inner products of all pairs of examples, relative to the first: float64 [shape=(n_examples, n_examples)].

    The shift changes neither distances nor CKA, and keeps a large common offset from eating the digits. All axes of the
    activations but the first are flattened.
    """
    features = activations.flatten(1)
    if features.device.type == "mps":  # Apple's GPUs have no double precision
        features = features.cpu()
    gram = torch.zeros(len(features), len(features), dtype=torch.float64, device=features.device)
    for block in features.split(_BLOCK, dim=1):
        shifted = block.double()
        shifted = shifted - shifted[:1]
        gram += shifted @ shifted.T
    return gram


def squared_distances(gram: Tensor) -> Tensor:
    """Squared Euclidean distances of all pairs of examples, from their inner products."""
    norms = gram.diagonal()
    return (norms[:, None] + norms - 2 * gram).clamp_min(0)


def median_distance(gram: Tensor) -> float:
    """Median Euclidean distance of two different examples, from their inner products."""
    rows, columns = torch.triu_indices(*gram.shape, offset=1)
    return float(squared_distances(gram)[rows, columns].sqrt().median())


def rbf_gram(gram: Tensor, bandwidth: float) -> Tensor:
    """Gaussian kernel exp(-distance^2 / (2 bandwidth^2)) of all pairs of examples, from their inner products.

    A bandwidth of 0 (most examples are equal) gives a matrix of zeros: examples without variation.
    """
    if bandwidth == 0:
        return torch.zeros_like(gram)
    return torch.exp(squared_distances(gram) / (-2 * bandwidth**2))


def u_centred(gram: Tensor) -> Tensor:
    """Centre a kernel matrix for the unbiased estimator: zero diagonal, and all rows and columns sum to zero.

    Raises:
        OptionError: fewer than four examples.
    """
    n = len(gram)
    if n < MIN_EXAMPLES:
        raise OptionError(f"the unbiased estimator needs at least {MIN_EXAMPLES} examples, got {n}")
    off = gram.clone().fill_diagonal_(0)
    sums = off.sum(0)
    centred = off - (sums[:, None] + sums) / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
    return centred.fill_diagonal_(0)


def unbiased_hsic(centred_a: Tensor, centred_b: Tensor) -> Tensor:
    """HSIC without bias (Song et al. 2012) of every pair, as inner products of U-centred kernel matrices.

    They are stacked, over the same examples: [shape=(n_a, n, n)] and [shape=(n_b, n, n)] -> float64 [shape=(n_a, n_b)].
    """
    n = centred_a.shape[-1]
    return centred_a.flatten(1) @ centred_b.flatten(1).T / (n * (n - 3))


def normalized(cross: Tensor, own_a: Tensor, own_b: Tensor) -> Tensor:
    """CKA from HSIC: ``cross`` [shape=(n_a, n_b)] over the roots of ``own_a`` and ``own_b``; NaN where one is 0."""
    values = cross / torch.sqrt(own_a[:, None] * own_b)
    return torch.where(torch.isfinite(values), values, torch.nan)
