"""In which units the heads of a student learn what teachers say (paper, section 4.4)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

CLIP = 6.0  # standard deviations; the few values beyond would rule the squared error


class TeacherScale(NamedTuple):
    """What heads learn of the teachers' features: the features, standardized, or their principal components.

    A squared error over features is one over components, each weighted by its variance: a handful of them would rule
    it. Here a component has the square root of its variance instead.

    Args:
        mean: of each feature [shape=(n_features,)].
        std: likewise.
        bases: for each teacher, from its standardized features to what is learnt of them; of mean variance 1
            [shape=(size, n_components) each]. Empty: the features themselves.
    """

    mean: Tensor
    std: Tensor
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
