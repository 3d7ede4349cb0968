"""Heads of the teachers on a student's embedding: in which units they learn, and what a checkpoint keeps of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

CLIP = 6.0  # standard deviations; the few values beyond would rule the squared error
_DEAD = 0.01  # of the median deviation: values that hardly ever vary, so that training says nothing of their weights


class TeacherScale(NamedTuple):
    """What heads learn of the teachers' features: the features, standardized, or their principal components.

    A squared error over features is one over components, each weighted by its variance: a handful of them would rule
    it. Here a component has the square root of its variance instead.
    """

    mean: Tensor  # of each feature [shape=(n_features,)]
    std: Tensor  # likewise
    # For each teacher, from its standardized features to what is learnt of them; of mean variance 1
    # [shape=(size, n_components) each]. Empty: the features themselves.
    bases: tuple[Tensor, ...] = ()

    @classmethod
    def fit(cls, features: Tensor, sizes: Iterable[int], n_components: int) -> TeacherScale:
        """Measure it on features of crops [shape=(n, n_features)]; ``n_components`` of each teacher, or fewer."""
        features = features.double()
        scale = cls(features.mean(0).float(), features.std(0).clamp_min(1e-6).float())
        if not n_components:
            return scale
        parts = scale(features).double().split(list(sizes), 1)
        return scale._replace(bases=tuple(_components(part, n_components) for part in parts))

    def __call__(self, features: Tensor) -> Tensor:
        """What is learnt of them [shape=(n, n_features or sum of components)]."""
        features = ((features.float() - self.mean) / self.std).clamp(-CLIP, CLIP)
        if not self.bases:
            return features
        parts = features.split([len(basis) for basis in self.bases], 1)
        return torch.cat([part @ basis for part, basis in zip(parts, self.bases, strict=True)], 1)

    def to(self, device: torch.device) -> TeacherScale:
        """The same on another device."""
        return TeacherScale(self.mean.to(device), self.std.to(device), tuple(basis.to(device) for basis in self.bases))


def principal_axes(centred: Tensor) -> tuple[Tensor, Tensor]:
    """Variances, the largest first, and axes as columns, of [shape=(n, size)]."""
    variances, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
    return variances.flip(0), axes.flip(1)


def _components(features: Tensor, n: int) -> Tensor:
    variances, axes = principal_axes(features - features.mean(0))
    variances, axes = variances[:n].clamp_min(1e-6), axes[:, :n]
    deviations = variances.sqrt() / variances.sqrt().mean()  # the new variances
    return (axes * (deviations / variances).sqrt()).float()


def make_head(size: int, n_features: int) -> nn.Sequential:
    """One batch norm without scale and one linear layer: the knowledge is to be in the embedding."""
    return nn.Sequential(nn.BatchNorm1d(size, affine=False), nn.Linear(size, n_features))


@torch.no_grad()
def component_head(head: nn.Sequential, embeddings: Tensor, n_components: int) -> nn.Linear:
    """The principal components of a head's answers, as one linear map of the embedding; about 0 on average.

    Args:
        head: from :func:`make_head`.
        embeddings: of crops, which say how the answers vary [shape=(n, size)].
        n_components: at most; fewer where there are fewer answers. That of the greatest variance comes first.
    """
    norm, linear = cast("tuple[nn.BatchNorm1d, nn.Linear]", tuple(head))
    embeddings = embeddings.double()
    mean, std = embeddings.mean(0), embeddings.std(0)
    answers = linear.weight.double() / (norm.get_buffer("running_var").double() + norm.eps).sqrt()
    answers[:, std <= _DEAD * std.median()] = 0
    _, axes = principal_axes((embeddings - mean) @ answers.T)
    axes = axes[:, :n_components]
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()  # eigenvectors have any
    result = nn.Linear(linear.in_features, axes.shape[1])
    result.weight.copy_(axes.T @ answers)
    result.bias.copy_(-(axes.T @ answers) @ mean)
    return result
