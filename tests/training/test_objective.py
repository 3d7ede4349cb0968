"""Losses and target update against slow, obvious versions."""

import pytest
import torch
from pretraining import TinyEncoder

from hear_byols.training.objective import (
    Byol,
    embedding_spread,
    mlp_head,
    self_supervised_loss,
    supervised_loss,
    update_momentum,
)


def test_self_supervised_loss_equals_squared_distance_of_unit_vectors_and_spares_the_targets():
    p, t = torch.randn(5, 7, requires_grad=True), torch.randn(5, 7, requires_grad=True)
    expected = sum((a / a.norm() - b / b.norm()).square().sum() / 5 for a, b in zip(p, t, strict=True))
    loss = self_supervised_loss(p, t)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert p.grad is not None
    assert t.grad is None


def test_supervised_loss_compares_both_views_with_the_same_features():
    z, y = torch.randn(6, 4), torch.randn(3, 4)
    expected = sum((z[row, i] - y[row % 3, i]) ** 2 for row in range(6) for i in range(4)) / 24
    torch.testing.assert_close(supervised_loss(z, y), expected)


def test_target_update_averages_parameters_and_float_buffers_and_copies_counts():
    online, target = mlp_head(3, 2, 4), mlp_head(3, 2, 4)
    online(torch.randn(8, 3))  # moves the batch-norm buffers
    before = {k: v.clone() for k, v in target.state_dict().items()}
    update_momentum(target, online, 0.9)
    for name, value in online.state_dict().items():
        expected = 0.9 * before[name] + 0.1 * value if value.is_floating_point() else value
        torch.testing.assert_close(target.state_dict()[name], expected)
    assert target[1].num_batches_tracked == 1


def test_byol_crosses_the_views_and_trains_only_the_online_network():
    torch.manual_seed(0)
    byol = Byol(TinyEncoder(), projection_size=5, hidden=8)
    first, second = torch.randn(4, 1, 16, 17), torch.randn(4, 1, 16, 17)
    out = byol(first, second)
    # At the start the target is a copy of the online network: swapped halves (batch statistics do not see the order).
    torch.testing.assert_close(out.targets, out.projections.detach().roll(4, 0), rtol=1e-4, atol=1e-5)
    self_supervised_loss(out.predictions, out.targets).backward()
    assert all((p.grad is None) == name.startswith("target.") for name, p in byol.named_parameters())
    assert not any(p.requires_grad for p in byol.target.parameters())
    assert not out.embeddings.requires_grad


def test_spread_is_zero_after_collapse_and_full_on_the_sphere():
    torch.manual_seed(0)
    assert embedding_spread(torch.ones(10, 4) * torch.arange(1, 11)[:, None]).item() == pytest.approx(0, abs=1e-6)
    assert embedding_spread(torch.randn(4000, 64)).item() == pytest.approx(1, rel=0.02)
