"""The predictor against the plain way to write one."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hear_byols.errors import TaskError
from hear_byols.evaluation.predictor import GridPoint, fit

EXACT = {"dtype": torch.float64}
SMALL = {"hidden_size": 16, "batch_size": 20, "max_epochs": 6, "check_every": 3, "dropout": 0.0}
N_LABELS = 3


def data(n=50, size=5, seed=0, multilabel=False):
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, size)).astype(np.float32)
    if multilabel:
        return x, (random.uniform(size=(n, N_LABELS)) < 0.3).astype(np.float32)
    return x, np.eye(N_LABELS, dtype=np.float32)[(x[:, 0] > 0).astype(int) + (x[:, 1] > 0)]


def last_epoch():
    """A criterion that always prefers the latest state."""
    counter = itertools.count()
    return lambda logits: (float(next(counter)), None)


def plain(point, seed, x, y):
    """The kit's predictor and training, one layer after the other, with torch's own modules and optimizer."""
    torch.manual_seed(seed)
    layers, width = [], x.shape[1]
    init = {"xavier_uniform": nn.init.xavier_uniform_, "xavier_normal": nn.init.xavier_normal_}[point.initialization]
    for i in range(point.hidden_layers):
        linear = nn.Linear(width, point.hidden_size)
        init(linear.weight, gain=math.sqrt(2) if i else 1.0)
        layers += [linear, nn.BatchNorm1d(point.hidden_size), nn.Dropout(point.dropout), nn.ReLU()]
        width = point.hidden_size
    last = nn.Linear(width, y.shape[1])
    init(last.weight, gain=math.sqrt(2))
    model = nn.Sequential(*layers, last).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=point.learning_rate)
    multilabel = bool((y.sum(1) != 1).any())
    criterion = nn.BCEWithLogitsLoss() if multilabel else nn.CrossEntropyLoss()
    for _ in range(point.max_epochs):
        for first in range(0, len(x), point.batch_size):
            rows = slice(first, first + point.batch_size)
            target = torch.from_numpy(y[rows]).double()
            optimizer.zero_grad()
            criterion(model(torch.from_numpy(x[rows]).double()), target if multilabel else target.argmax(1)).backward()
            optimizer.step()
    model.eval()
    return lambda rows: model(torch.from_numpy(rows).double()).detach().numpy()


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_it_is_the_kits_network_and_training(layers, multilabel):
    x, y = data(multilabel=multilabel)
    point = GridPoint(layers, 1e-2, "xavier_normal", **SMALL)
    result = fit(point, 4, (x, y), x, last_epoch(), multilabel=multilabel, **EXACT)
    new, _ = data(seed=1)
    assert result.epoch == 5
    np.testing.assert_allclose(result.predict(new), plain(point, 4, x, y)(new), rtol=1e-6, atol=1e-9)


def test_dropout_depends_on_the_seed_alone():
    x, y = data()
    point = GridPoint(2, 1e-2, "xavier_normal", **{**SMALL, "dropout": 0.5})

    def trained(seed):
        return fit(point, seed, (x, y), x, last_epoch(), multilabel=False, **EXACT).predict(x)

    first = trained(8)
    torch.rand(7)  # what others draw is nothing to it
    np.testing.assert_array_equal(trained(8), first)
    without = fit(replace(point, dropout=0.0), 8, (x, y), x, last_epoch(), multilabel=False, **EXACT).predict(x)
    assert np.abs(first - without).max() > 0.01


def scripted(scores):
    """A criterion for one predictor that gives these scores, one a validation."""
    iterator = iter(scores)
    return lambda logits: (next(iterator), "extra")


SCHEDULE = {**SMALL, "max_epochs": 100, "patience": 2}


@pytest.mark.parametrize(
    ("scores", "epoch", "n_used"),
    [
        ([0.1, 0.5, 0.5, 0.4, 0.9], 5, 4),  # equal is not better; two validations without a better one end it
        ([0.1, 0.5, 0.2, 0.6, 0.1, 0.1], 11, 6),
        ([0.3, math.nan, 0.9], 2, 2),  # not finite ends it
        ([math.nan, 0.9], 2, 1),
    ],
)
def test_training_ends_as_in_the_kit(scores, epoch, n_used):
    used, source = [], scripted(scores)

    def criterion(logits):
        used.append(source(logits))
        return used[-1]

    x, y = data()
    result = fit(GridPoint(1, 1e-3, "xavier_uniform", **SCHEDULE), 0, (x, y), x, criterion, multilabel=False, **EXACT)
    assert (result.epoch, len(used), result.extra) == (epoch, n_used, "extra")
    assert result.score == (max(s for s in scores[:n_used] if s == s) if scores[0] == scores[0] else -math.inf)


def test_the_state_of_the_best_validation_is_kept():
    x, y = data()
    point = GridPoint(1, 1e-2, "xavier_uniform", **SCHEDULE)
    kept = fit(point, 0, (x, y), x, scripted([0.1, 0.9, 0.2, 0.2]), multilabel=False, **EXACT)
    short = GridPoint(1, 1e-2, "xavier_uniform", **{**SCHEDULE, "max_epochs": 6})
    expected = fit(short, 0, (x, y), x, last_epoch(), multilabel=False, **EXACT)
    np.testing.assert_array_equal(kept.predict(x), expected.predict(x))


def test_a_last_row_alone_joins_the_batch_before():
    x, y = data(n=41)
    point = GridPoint(1, 1e-3, "xavier_uniform", **SMALL)
    assert np.isfinite(fit(point, 0, (x, y), x, last_epoch(), multilabel=False, **EXACT).predict(x)).all()
    with pytest.raises(TaskError, match="at least two training"):
        fit(point, 0, (x[:1], y[:1]), x, last_epoch(), multilabel=False, **EXACT)


def test_random_state_of_the_caller_is_left_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    x, y = data()
    fit(GridPoint(1, 1e-3, "xavier_uniform"), 0, (x, y), x, scripted([math.nan]), multilabel=False)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_the_same_predictor():
    x, y = data()
    point = GridPoint(1, 1e-2, "xavier_uniform", **SMALL)
    on_cpu, on_gpu = (
        fit(point, 0, (x, y), x, last_epoch(), multilabel=False, device=d, **EXACT) for d in ("cpu", "cuda")
    )
    np.testing.assert_allclose(on_cpu.predict(x), on_gpu.predict(x), rtol=1e-5, atol=1e-8)
