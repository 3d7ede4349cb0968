"""hear-eval-kit's predictor, many of them trained at a time.

Predictors of a grid see the same rows in the same order, so their layers are stacked along a first axis P and trained
by batched matrix products. Each has its own learning rate, initial weights and dropout; what one does never depends on
the others of its stack.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_byols.errors import TaskError

_BETAS, _EPS = (0.9, 0.999), 1e-8  # torch.optim.Adam's defaults
_CHUNK = 8192  # rows predicted at a time
INITIALIZATIONS = {"xavier_uniform": nn.init.xavier_uniform_, "xavier_normal": nn.init.xavier_normal_}

State = dict[str, Tensor]
Criterion = Callable[[np.ndarray], tuple[float, Any]]


@dataclass(frozen=True)
class GridPoint:
    """Hyperparameters of a predictor.

    Args:
        hidden_layers: linear, batch norm, dropout and ReLU each.
        learning_rate: of Adam.
        initialization: ``"xavier_uniform"`` or ``"xavier_normal"``.
        hidden_size: of every hidden layer.
        dropout: probability.
        batch_size: rows; they keep their order in every epoch.
        max_epochs: at most.
        check_every: epochs between validations.
        patience: validations without a better score before training ends.
    """

    hidden_layers: int
    learning_rate: float
    initialization: str
    hidden_size: int = 1024
    dropout: float = 0.1
    batch_size: int = 1024
    max_epochs: int = 500
    check_every: int = 3
    patience: int = 20


@dataclass(frozen=True)
class Fitted:
    """A predictor at its best validation.

    Args:
        point: its hyperparameters.
        score: of the criterion at that validation, the higher the better; -inf if it was not finite.
        epoch: after which it was taken, counted from 0.
        extra: what the criterion said beside its score.
        state: weights and running statistics, each with a first axis of 1.
        multilabel: whether labels exclude each other not.
    """

    point: GridPoint
    score: float
    epoch: int
    extra: Any
    state: State
    multilabel: bool

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Probabilities of the labels: [shape=(n_rows, size)] -> float32 [shape=(n_rows, n_labels)]."""
        rows = torch.as_tensor(x).to(self.state["weight0"])
        logits = _predict(self.state, rows, self.point.hidden_layers)[0]
        return to_probabilities(logits, self.multilabel).numpy()


def fit(
    points: Sequence[GridPoint],
    seeds: Sequence[int],
    train: tuple[np.ndarray, np.ndarray],
    valid_x: np.ndarray,
    criterion: Criterion,
    *,
    multilabel: bool,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> list[Fitted]:
    """Train a predictor for every point.

    Args:
        points: hyperparameters; those of equal shape and schedule are trained together.
        seeds: of each one's initial weights and dropout.
        train: embeddings [shape=(n_rows, size)] and binary targets [shape=(n_rows, n_labels)].
        valid_x: embeddings of the validation rows.
        criterion: from validation logits, float32 [shape=(n_rows, n_labels)], to a score (the higher the better) and
            anything that is to be kept with it.
        multilabel: sigmoid and binary cross-entropy; otherwise softmax and cross-entropy.
        device: where to train.
        dtype: of the arithmetic. In float32 Adam turns rounding into steps of full size where gradients are zero, as
            for biases before a batch norm, so only float64 tells whether two ways to train are the same.

    Returns:
        In the points' order.

    Raises:
        TaskError: fewer than two training rows.
    """
    if len(train[0]) < 2:
        raise TaskError(f"at least two training clips or timestamps are needed, got {len(train[0])}")
    x, y, valid = (torch.as_tensor(a, dtype=dtype, device=device) for a in (*train, valid_x))
    groups: dict[Any, list[int]] = {}
    for i, point in enumerate(points):
        shape = (point.hidden_layers, point.hidden_size, point.dropout, point.batch_size)
        groups.setdefault((shape, point.max_epochs, point.check_every, point.patience), []).append(i)
    fitted: dict[int, Fitted] = {}
    for members in groups.values():
        stack = _Stack([points[i] for i in members], [seeds[i] for i in members], x, y.shape[1])
        for i, result in zip(members, stack.train(x, y, valid, criterion, multilabel), strict=True):
            fitted[i] = result
    return [fitted[i] for i in range(len(points))]


def to_probabilities(logits: Tensor, multilabel: bool) -> Tensor:
    """Sigmoid or softmax over the last axis."""
    return torch.sigmoid(logits) if multilabel else torch.softmax(logits, -1)


def loss(logits: Tensor, targets: Tensor, multilabel: bool) -> Tensor:
    """Mean loss of every predictor: logits [shape=(P, n_rows, n_labels)] -> [shape=(P,)]."""
    targets = targets.expand_as(logits)
    if multilabel:
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean((1, 2))
    return -(targets * torch.log_softmax(logits, -1)).sum(-1).mean(1)


class _Stack:
    """Predictors of equal shape; those that have ended leave it."""

    def __init__(self, points: Sequence[GridPoint], seeds: Sequence[int], x: Tensor, n_labels: int) -> None:
        self.points = list(points)
        self.shared = points[0]
        states = [_initial(point, x.shape[1], n_labels, seed) for point, seed in zip(points, seeds, strict=True)]
        self.state = {name: torch.stack([state[name] for state in states]).to(x) for name in states[0]}
        self.names = [name for name in self.state if not name.startswith("running")]
        self.moments = {name: (torch.zeros_like(t), torch.zeros_like(t)) for name, t in self._trained()}
        self.rates = torch.tensor([point.learning_rate for point in points], dtype=x.dtype, device=x.device)
        self.generators = [torch.Generator(x.device).manual_seed(seed) for seed in seeds]
        self.n_steps = 0

    def _trained(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, self.state[name]) for name in self.names)

    def train(self, x: Tensor, y: Tensor, valid: Tensor, criterion: Criterion, multilabel: bool) -> list[Fitted]:
        """Train to the end; the best state of each."""
        best: list[Fitted | None] = [None] * len(self.points)
        waited = [0] * len(self.points)
        members = list(range(len(self.points)))  # by their place in the stack
        for epoch in range(self.shared.max_epochs):
            for rows in _batches(len(x), self.shared.batch_size):
                self._step(x[rows], y[rows], multilabel)
            if (epoch + 1) % self.shared.check_every:
                continue
            staying = []
            logits = _predict(self.state, valid, self.shared.hidden_layers).numpy()
            for place, member in enumerate(members):
                score, extra = criterion(logits[place])
                finite = math.isfinite(score)
                known = best[member]
                if known is None or (finite and score > known.score):
                    state = {name: tensor[place : place + 1].clone() for name, tensor in self.state.items()}
                    kept = score if finite else -math.inf
                    best[member] = Fitted(self.points[member], kept, epoch, extra, state, multilabel)
                    waited[member] = 0
                else:
                    waited[member] += 1
                # A criterion that is not finite ends a training in the kit: Lightning's early stopping checks for it.
                if finite and waited[member] < self.shared.patience:
                    staying.append(place)
            if len(staying) < len(members):
                self._keep(staying)
                members = [members[place] for place in staying]
            if not members:
                break
        if any(each is None for each in best):
            raise TaskError(
                f"no validation within {self.shared.max_epochs} epochs, one every {self.shared.check_every}"
            )
        return best

    def _step(self, x: Tensor, y: Tensor, multilabel: bool) -> None:
        parameters = {name: tensor.requires_grad_(True) for name, tensor in self._trained()}
        logits = _forward({**self.state, **parameters}, x, self.shared.hidden_layers, self._dropout)
        gradients = torch.autograd.grad(loss(logits, y, multilabel).sum(), list(parameters.values()))
        self.n_steps += 1
        with torch.no_grad():
            for (name, tensor), gradient in zip(self._trained(), gradients, strict=True):
                self._adam(name, tensor, gradient)
                tensor.requires_grad_(False)

    def _adam(self, name: str, tensor: Tensor, gradient: Tensor) -> None:
        """torch.optim.Adam has one learning rate a tensor; a stack needs one a predictor."""
        first, second = self.moments[name]
        first.lerp_(gradient, 1 - _BETAS[0])
        second.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
        corrections = [1 - beta**self.n_steps for beta in _BETAS]
        rates = (self.rates / corrections[0]).view(-1, *[1] * (tensor.ndim - 1))
        tensor.sub_(rates * first / ((second / corrections[1]).sqrt_() + _EPS))

    def _dropout(self, hidden: Tensor) -> Tensor:
        if self.shared.dropout == 0:
            return hidden
        keep = 1 - self.shared.dropout
        mask = torch.empty_like(hidden)
        for part, generator in zip(mask, self.generators, strict=True):
            part.bernoulli_(keep, generator=generator)
        return hidden * mask / keep

    def _keep(self, places: list[int]) -> None:
        self.state = {name: tensor[places] for name, tensor in self.state.items()}
        self.moments = {name: (first[places], second[places]) for name, (first, second) in self.moments.items()}
        self.rates = self.rates[places]
        self.generators = [self.generators[place] for place in places]


def _initial(point: GridPoint, size: int, n_labels: int, seed: int) -> State:
    """Initial weights: xavier with the gain of what comes before; biases as torch draws them."""
    widths = [size, *[point.hidden_size] * point.hidden_layers, n_labels]
    state: State = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for i, (before, after) in enumerate(pairwise(widths)):
            layer = nn.Linear(before, after)
            gain = nn.init.calculate_gain("relu" if i else "linear")
            INITIALIZATIONS[point.initialization](layer.weight, gain=gain)
            state[f"weight{i}"] = layer.weight.detach().T.contiguous()
            state[f"bias{i}"] = layer.bias.detach()
            if i < point.hidden_layers:
                state[f"scale{i}"], state[f"shift{i}"] = torch.ones(after), torch.zeros(after)
                state[f"running_mean{i}"], state[f"running_var{i}"] = torch.zeros(after), torch.ones(after)
    return state


def _forward(state: State, x: Tensor, n_hidden: int, dropout: Callable[[Tensor], Tensor] | None) -> Tensor:
    """Embeddings [shape=(n_rows, size)] -> logits [shape=(P, n_rows, n_labels)]; training where there is dropout."""
    n_stacked = len(state["weight0"])
    hidden = x.expand(n_stacked, *x.shape)
    for i in range(n_hidden):
        hidden = _batch_norm(state, i, torch.baddbmm(state[f"bias{i}"][:, None], hidden, state[f"weight{i}"]), dropout)
        hidden = torch.relu(dropout(hidden) if dropout else hidden)
    return torch.baddbmm(state[f"bias{n_hidden}"][:, None], hidden, state[f"weight{n_hidden}"])


def _batch_norm(state: State, i: int, hidden: Tensor, training: object) -> Tensor:
    n_stacked, n_rows, width = hidden.shape
    values = [state[f"{name}{i}"].view(-1) for name in ("running_mean", "running_var", "scale", "shift")]
    side_by_side = hidden.transpose(0, 1).reshape(n_rows, n_stacked * width)
    normal = F.batch_norm(side_by_side, *values, training=training is not None)
    return normal.view(n_rows, n_stacked, width).transpose(0, 1)


def _predict(state: State, x: Tensor, n_hidden: int) -> Tensor:
    """Logits on the CPU [shape=(P, n_rows, n_labels)]."""
    with torch.no_grad():
        return torch.cat([_forward(state, rows, n_hidden, None).cpu() for rows in x.split(_CHUNK)], 1)


def _batches(n_rows: int, size: int) -> list[slice]:
    """Consecutive rows; a last single row joins the batch before, as batch norm needs two."""
    starts = [start for start in range(0, n_rows, size) if n_rows - start > 1 or start == 0]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], n_rows], strict=True)]
