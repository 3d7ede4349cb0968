"""Heads of the teachers on a student's embedding, and what a checkpoint keeps of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hear_byols.training.teacher_scale import principal_axes

_DEAD = 0.01  # of the median deviation: values that hardly ever vary, so that training says nothing of their weights


def make_head(size: int, n_features: int) -> nn.Sequential:
    """One batch norm without scale and one linear layer: the knowledge is to be in the embedding."""
    return nn.Sequential(nn.BatchNorm1d(size, affine=False), nn.Linear(size, n_features))


@torch.no_grad()
def component_head(head: nn.Sequential, embeddings: Tensor, n_components: int) -> nn.Linear:
    """The principal components of a head's answers, as one linear map of the embedding; about 0 on average.

    Args:
        head: from :func:`make_head`.
        embeddings: of crops, which say how the answers vary [shape=(n, size)].
        n_components: at most; fewer where there are fewer answers.

    Returns:
        (n, size) -> (n, n_components), the component of the greatest variance first.
    """
    norm, linear = head
    assert isinstance(norm, nn.BatchNorm1d)
    assert isinstance(linear, nn.Linear)
    assert norm.running_var is not None
    embeddings = embeddings.double()
    mean, std = embeddings.mean(0), embeddings.std(0)
    answers = linear.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    answers[:, std <= _DEAD * std.median()] = 0
    _, axes = principal_axes((embeddings - mean) @ answers.T)
    axes = axes[:, :n_components]
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()  # eigenvectors have any
    result = nn.Linear(linear.in_features, axes.shape[1])
    result.weight.copy_(axes.T @ answers)
    result.bias.copy_(-(axes.T @ answers) @ mean)
    return result
