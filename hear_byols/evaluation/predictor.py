"""hear-eval-kit's predictor: a small network on embeddings that stay as they are, trained to its best validation."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_byols.errors import TaskError

_CHUNK = 8192  # rows predicted at a time

Criterion = Callable[[np.ndarray], tuple[float, Any]]


@dataclass(frozen=True)
class GridPoint:
    """Hyperparameters of a predictor."""

    hidden_layers: int  # linear, batch norm, dropout and ReLU each
    learning_rate: float  # of Adam
    initialization: str  # "xavier_uniform" or "xavier_normal"
    hidden_size: int = 1024
    dropout: float = 0.1
    batch_size: int = 1024  # rows; they keep their order in every epoch
    max_epochs: int = 500
    check_every: int = 3  # epochs between validations
    patience: int = 20  # validations without a better score before training ends


@dataclass(frozen=True)
class FittedPredictor:
    """A predictor at its best validation."""

    point: GridPoint
    score: float  # of the criterion at that validation, the higher the better; -inf if it was not finite
    epoch: int  # after which it was taken, counted from 0
    extra: Any  # what the criterion said beside its score
    network: nn.Module  # from embeddings to logits

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Logits of the labels: [shape=(n_rows, size)] -> float32 or float64 [shape=(n_rows, n_labels)]."""
        weight = next(self.network.parameters())
        return _logits(self.network, torch.as_tensor(x).to(weight))


class Dropout(nn.Module):
    """Dropout that draws from a generator of its own, so that no training depends on what else draws."""

    def __init__(self, probability: float, generator: torch.Generator) -> None:
        super().__init__()
        self.keep = 1 - probability
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.keep == 1:
            return x
        return x * torch.empty_like(x).bernoulli_(self.keep, generator=self.generator) / self.keep


def fit(
    point: GridPoint,
    seed: int,
    train: tuple[np.ndarray, np.ndarray],
    valid_x: np.ndarray,
    criterion: Criterion,
    *,
    multilabel: bool,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> FittedPredictor:
    """Train a predictor.

    Args:
        point: its hyperparameters.
        seed: of its initial weights and dropout.
        train: embeddings [shape=(n_rows, size)] and binary targets [shape=(n_rows, n_labels)].
        valid_x: embeddings of the validation rows.
        criterion: from validation logits, float32 [shape=(n_rows, n_labels)], to a score (the higher the better) and
            anything that is to be kept with it.
        multilabel: sigmoid and binary cross-entropy; otherwise softmax and cross-entropy.
        device: where to train.
        dtype: of the arithmetic. In float32 Adam turns rounding into steps of full size where gradients are zero, as
            for biases before a batch norm, so only float64 tells whether two ways to train are the same.

    Raises:
        TaskError: fewer than two training rows, or no validation within ``max_epochs``.
    """
    if len(train[0]) < 2:
        raise TaskError(f"at least two training clips or timestamps are needed, got {len(train[0])}")
    x, y, valid = (torch.as_tensor(a, dtype=dtype, device=device) for a in (*train, valid_x))
    network = build_network(point, x.shape[1], y.shape[1], seed, x.device).to(x)
    optimizer = torch.optim.Adam(network.parameters(), lr=point.learning_rate)
    best: FittedPredictor | None = None
    waited = 0
    for epoch in range(point.max_epochs):
        network.train()
        for rows in _batches(len(x), point.batch_size):
            optimizer.zero_grad()
            loss(network(x[rows]), y[rows], multilabel).backward()
            optimizer.step()
        if (epoch + 1) % point.check_every:
            continue
        score, extra = criterion(_logits(network, valid))
        finite = math.isfinite(score)
        waited += 1
        if best is None or (finite and score > best.score):
            best = FittedPredictor(point, score if finite else -math.inf, epoch, extra, _frozen(network))
            waited = 0
        # A criterion that is not finite ends a training in the kit: Lightning's early stopping checks for it.
        if not finite or waited >= point.patience:
            break
    if best is None:
        raise TaskError(f"no validation within {point.max_epochs} epochs, one every {point.check_every}")
    return best


def build_network(point: GridPoint, size: int, n_labels: int, seed: int, device: torch.device) -> nn.Sequential:
    """The untrained network: xavier weights with the gain of what comes before, biases as torch draws them."""
    generator = torch.Generator(device).manual_seed(seed)
    initialize = getattr(nn.init, f"{point.initialization}_")
    sizes = [size, *[point.hidden_size] * point.hidden_layers, n_labels]
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for i, (n_in, n_out) in enumerate(pairwise(sizes)):
            if i:
                layers += [nn.BatchNorm1d(n_in), Dropout(point.dropout, generator), nn.ReLU()]
            layer = nn.Linear(n_in, n_out)
            initialize(layer.weight, gain=nn.init.calculate_gain("relu" if i else "linear"))
            layers.append(layer)
    return nn.Sequential(*layers)


def loss(logits: Tensor, targets: Tensor, multilabel: bool) -> Tensor:
    """Mean loss: logits and binary targets [shape=(n_rows, n_labels)] -> scalar."""
    return (F.binary_cross_entropy_with_logits if multilabel else F.cross_entropy)(logits, targets)


def _frozen(network: nn.Sequential) -> nn.Sequential:
    """A copy in evaluation mode, without the generators, which cannot be copied."""
    kept = [copy.deepcopy(layer) for layer in network if not isinstance(layer, Dropout)]
    return nn.Sequential(*kept).eval().requires_grad_(False)


def _logits(network: nn.Module, x: Tensor) -> np.ndarray:
    network.eval()
    with torch.no_grad():
        return torch.cat([network(rows) for rows in x.split(_CHUNK)]).cpu().numpy()


def _batches(n_rows: int, size: int) -> list[slice]:
    """Consecutive rows; a last single row joins the batch before, as batch norm needs two."""
    starts = [start for start in range(0, n_rows, size) if n_rows - start > 1 or start == 0]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], n_rows], strict=True)]
