"""The predictor against the plain way to write one."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hear_byols.errors import TaskError
from hear_byols.evaluation.predictor import GridPoint, fit

SMALL = {"hidden_size": 16, "batch_size": 20, "max_epochs": 6, "check_every": 3, "dropout": 0.0}
POINT = GridPoint(1, 1e-2, "xavier_uniform", **SMALL)
N_LABELS = 3


def data(n=50, seed=0, multilabel=False):
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 5)).astype(np.float32)
    if multilabel:
        return x, (random.uniform(size=(n, N_LABELS)) < 0.3).astype(np.float32)
    return x, np.eye(N_LABELS, dtype=np.float32)[(x[:, 0] > 0).astype(int) + (x[:, 1] > 0)]


def last_epoch():
    """A criterion that always prefers the latest state."""
    counter = itertools.count()
    return lambda logits: (float(next(counter)), None)


def trained(point, seed, x, y, criterion=None, multilabel=False, **options):
    """A predictor, with the training rows for validation."""
    return fit(point, seed, (x, y), x, criterion or last_epoch(), multilabel=multilabel, dtype=torch.float64, **options)


def plain(point, seed, x, y, multilabel):
    """The kit's predictor and training, one layer after the other, with torch's own modules and optimizer."""
    torch.manual_seed(seed)
    layers, init = [], {"xavier_uniform": nn.init.xavier_uniform_, "xavier_normal": nn.init.xavier_normal_}
    widths = [x.shape[1], *[point.hidden_size] * point.hidden_layers, y.shape[1]]
    for i, (width, following) in enumerate(itertools.pairwise(widths)):
        linear = nn.Linear(width, following)
        init[point.initialization](linear.weight, gain=math.sqrt(2) if i else 1.0)
        layers += [linear, nn.BatchNorm1d(following), nn.Dropout(point.dropout), nn.ReLU()]
    model = nn.Sequential(*layers[:-3]).double()
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
    return lambda rows: model(torch.from_numpy(rows).double()).detach().numpy()


@pytest.mark.parametrize(
    ("layers", "initialization", "multilabel"), [(1, "xavier_normal", True), (2, "xavier_uniform", False)]
)
def test_it_is_the_kits_network_and_training(layers, initialization, multilabel):
    x, y = data(multilabel=multilabel)
    point = replace(POINT, hidden_layers=layers, initialization=initialization)
    result = trained(point, 4, x, y, multilabel=multilabel)
    assert result.epoch == 5
    new, _ = data(seed=1)
    np.testing.assert_allclose(result.predict(new), plain(point, 4, x, y, multilabel)(new), rtol=1e-6, atol=1e-9)


def test_dropout_depends_on_the_seed_alone():
    x, y = data()
    point = replace(POINT, hidden_layers=2, dropout=0.5)
    before = torch.get_rng_state()
    first = trained(point, 8, x, y).predict(x)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)  # what others draw is nothing to it
    np.testing.assert_array_equal(trained(point, 8, x, y).predict(x), first)
    without = trained(replace(point, dropout=0.0), 8, x, y).predict(x)
    assert np.abs(first - without).max() > 0.01


@pytest.mark.parametrize(
    ("scores", "n_used", "epoch", "best"),
    [
        ([0.1, 0.5, 0.5, 0.4, 0.9], 4, 5, 0.5),  # equal is not better; two validations without a better one end it
        ([0.1, 0.5, 0.2, 0.6, 0.1, 0.1], 6, 11, 0.6),
        ([0.3, math.nan, 0.9], 2, 2, 0.3),  # not finite ends it
        ([math.nan, 0.9], 1, 2, -math.inf),
    ],
)
def test_training_ends_as_in_the_kit_with_the_state_of_the_best_validation(scores, n_used, epoch, best):
    given = iter(scores)
    x, y = data()
    result = trained(replace(POINT, max_epochs=100, patience=2), 0, x, y, lambda logits: (next(given), "extra"))
    assert (result.epoch, result.score, result.extra) == (epoch, best, "extra")
    assert list(given) == scores[n_used:]
    short = trained(replace(POINT, max_epochs=epoch + 1), 0, x, y)
    np.testing.assert_array_equal(result.predict(x), short.predict(x))


def test_a_last_row_alone_joins_the_batch_before():
    x, y = data(n=41)
    assert np.isfinite(trained(POINT, 0, x, y).predict(x)).all()
    with pytest.raises(TaskError, match="at least two training"):
        trained(POINT, 0, x[:1], y[:1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_the_same_predictor():
    x, y = data()
    on_cpu, on_gpu = (trained(POINT, 0, x, y, device=device) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(on_cpu.predict(x), on_gpu.predict(x), rtol=1e-5, atol=1e-8)
