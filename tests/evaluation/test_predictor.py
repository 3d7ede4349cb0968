"""Stacked predictors against the plain way to write one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from hear_byols.errors import TaskError
from hear_byols.evaluation.predictor import GridPoint, fit, loss

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


def plain(point, seed, x, y, multilabel):
    """The kit's predictor and training, one layer after the other, with torch's own modules and optimiser."""
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
    criterion = nn.BCEWithLogitsLoss() if multilabel else nn.CrossEntropyLoss()
    for _ in range(point.max_epochs):
        for first in range(0, len(x), point.batch_size):
            rows = slice(first, first + point.batch_size)
            target = torch.from_numpy(y[rows]).double()
            optimizer.zero_grad()
            criterion(model(torch.from_numpy(x[rows]).double()), target if multilabel else target.argmax(1)).backward()
            optimizer.step()
    model.eval()
    return lambda rows: (
        (torch.sigmoid if multilabel else nn.Softmax(1))(model(torch.from_numpy(rows).double())).detach().numpy()
    )


@pytest.mark.parametrize("multilabel", [False, True])
def test_a_stack_is_many_plain_predictors(multilabel):
    x, y = data(multilabel=multilabel)
    points = [
        GridPoint(layers, rate, initialization, **SMALL)
        for layers in (1, 2)
        for rate, initialization in ((3.2e-3, "xavier_uniform"), (1e-2, "xavier_normal"))
    ]
    counters = last_epoch()
    fitted = fit(points, range(4), (x, y), x, counters, multilabel=multilabel, **EXACT)
    new, _ = data(seed=1)
    for seed, (point, result) in enumerate(zip(points, fitted, strict=True)):
        assert result.point == point
        assert result.epoch == 5
        expected = plain(point, seed, x, y, multilabel)(new)
        np.testing.assert_allclose(result.predict(new), expected, rtol=1e-6, atol=1e-9)


def test_dropout_and_neighbours_do_not_mix():
    x, y = data()
    points = [GridPoint(2, rate, "xavier_normal", **{**SMALL, "dropout": 0.5}) for rate in (1e-3, 1e-2, 3e-3)]
    together = fit(points, [7, 8, 9], (x, y), x, last_epoch(), multilabel=False, **EXACT)
    alone = fit(points[1:2], [8], (x, y), x, last_epoch(), multilabel=False, **EXACT)
    without = fit(
        [GridPoint(2, 1e-2, "xavier_normal", **SMALL)], [8], (x, y), x, last_epoch(), multilabel=False, **EXACT
    )
    np.testing.assert_allclose(together[1].predict(x), alone[0].predict(x), rtol=1e-6, atol=1e-9)
    assert np.abs(alone[0].predict(x) - without[0].predict(x)).max() > 0.01


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
    (result,) = fit(
        [GridPoint(1, 1e-3, "xavier_uniform", **SCHEDULE)], [0], (x, y), x, criterion, multilabel=False, **EXACT
    )
    assert (result.epoch, len(used), result.extra) == (epoch, n_used, "extra")
    assert result.score == (max(s for s in scores[:n_used] if s == s) if scores[0] == scores[0] else -math.inf)


def test_the_state_of_the_best_validation_is_kept():
    x, y = data()
    point = GridPoint(1, 1e-2, "xavier_uniform", **SCHEDULE)
    (kept,) = fit([point], [0], (x, y), x, scripted([0.1, 0.9, 0.2, 0.2]), multilabel=False, **EXACT)
    short = GridPoint(1, 1e-2, "xavier_uniform", **{**SCHEDULE, "max_epochs": 6})
    (expected,) = fit([short], [0], (x, y), x, last_epoch(), multilabel=False, **EXACT)
    np.testing.assert_array_equal(kept.predict(x), expected.predict(x))


def test_one_that_ends_leaves_the_others_training():
    x, y = data()
    points = [GridPoint(1, rate, "xavier_uniform", **SCHEDULE) for rate in (1e-3, 1e-2)]
    calls = itertools.count()

    def criterion(logits):
        n = next(calls)
        if n < 6:  # both are asked in turn: the first never gets better, the second always
            return (0.5 if n % 2 == 0 else float(n)), None
        return float(n) if n < 9 else 0.0, None

    first, second = fit(points, [0, 1], (x, y), x, criterion, multilabel=False, **EXACT)
    assert (first.epoch, second.epoch) == (2, 17)
    short = GridPoint(1, 1e-2, "xavier_uniform", **{**SCHEDULE, "max_epochs": 18})
    (alone,) = fit([short], [1], (x, y), x, last_epoch(), multilabel=False, **EXACT)
    np.testing.assert_allclose(second.predict(x), alone.predict(x), rtol=1e-6, atol=1e-9)


def test_a_last_row_alone_joins_the_batch_before():
    x, y = data(n=41)
    (result,) = fit(
        [GridPoint(1, 1e-3, "xavier_uniform", **SMALL)], [0], (x, y), x, last_epoch(), multilabel=False, **EXACT
    )
    assert np.isfinite(result.predict(x)).all()
    with pytest.raises(TaskError, match="at least two training"):
        fit(
            [GridPoint(1, 1e-3, "xavier_uniform", **SMALL)],
            [0],
            (x[:1], y[:1]),
            x,
            last_epoch(),
            multilabel=False,
            **EXACT,
        )


@pytest.mark.parametrize("multilabel", [False, True])
def test_losses_are_torchs(multilabel):
    _, y = data(multilabel=multilabel)
    logits, target = torch.randn(2, 50, N_LABELS, generator=torch.manual_seed(0)), torch.from_numpy(y)
    criterion = nn.BCEWithLogitsLoss() if multilabel else nn.CrossEntropyLoss()
    expected = [criterion(each, target if multilabel else target.argmax(1)) for each in logits]
    torch.testing.assert_close(loss(logits, target, multilabel), torch.stack(expected))


def test_random_state_of_the_caller_is_left_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    x, y = data()
    fit([GridPoint(1, 1e-3, "xavier_uniform")], [0], (x, y), x, scripted([math.nan]), multilabel=False)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_the_same_predictor():
    x, y = data()
    points = [GridPoint(1, rate, "xavier_uniform", **SMALL) for rate in (1e-3, 1e-2)]
    on_cpu, on_gpu = (
        fit(points, [0, 1], (x, y), x, last_epoch(), multilabel=False, device=device, **EXACT)
        for device in ("cpu", "cuda")
    )
    for a, b in zip(on_cpu, on_gpu, strict=True):
        np.testing.assert_allclose(a.predict(x), b.predict(x), rtol=1e-5, atol=1e-8)
