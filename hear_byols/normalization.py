"""Standardization of log-mel spectrograms: statistics in double precision, so that batches cannot change them.

The modes are described in ``docs/reference.md``; only ``original`` lets clips of one call influence each
other.
"""

from __future__ import annotations

import torch
from torch import Tensor

MIN_STD = 1e-5  # silence has no spread; its standardized spectrogram is 0
MIN_SHARE = 0.1  # of the data set's spread that a clip has at least, halfway: else silence would be far out


class Moments:
    """Running count, sum and sum of squares of several groups of values (one group a clip)."""

    count = 0  # of each group
    _shift: Tensor  # the first value of each, which is taken off all: the variance of a constant is then exactly 0
    _sum: Tensor
    _sum_squares: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Moments:
        """Of values [shape=(n_groups, ...)] alone."""
        moments = cls()
        moments.update(values)
        return moments

    def update(self, values: Tensor, times: Tensor | None = None) -> None:
        """Add values [shape=(n_groups, ...)], the same number to every group.

        Each along their second axis counts once, or ``times``, whole numbers [shape=(values.shape[1],)].
        """
        exact = torch.float32 if values.device.type == "mps" else torch.float64  # Apple's GPUs have no double precision
        flat = values.flatten(1).to(exact)
        if self.count == 0:
            self._shift = flat[:, :1]
            self._sum = self._sum_squares = torch.zeros_like(flat[:, 0])
        shifted = (flat - self._shift).view_as(values)
        squares = shifted.square()
        if times is not None:
            weights = times.to(shifted).view(-1, *(1,) * (values.ndim - 2))
            shifted, squares = shifted * weights, squares * weights
        self.count += values[0].numel() if times is None else int(times.sum()) * values[0, 0].numel()
        self._sum = self._sum + shifted.flatten(1).sum(1)
        self._sum_squares = self._sum_squares + squares.flatten(1).sum(1)

    def mean_std(self) -> tuple[Tensor, Tensor]:
        """Mean and unbiased standard deviation of each group, float32 [shape=(n_groups,)]."""
        mean = self._sum / self.count
        variance = (self._sum_squares - self._sum * mean) / max(self.count - 1, 1)
        return (mean + self._shift[:, 0]).float(), _root(variance).float()

    def pooled(self) -> tuple[Tensor, Tensor]:
        """Mean and unbiased standard deviation over all groups together, float32 scalars."""
        count = self.count * len(self._sum)
        shift = self._shift[:, 0]
        mean = (self._sum + self.count * shift).sum() / count
        centred = shift - mean
        squares = self._sum_squares + 2 * centred * self._sum + self.count * centred.square()
        return mean.float(), _root(squares.sum() / max(count - 1, 1)).float()


def _root(variance: Tensor) -> Tensor:
    """Square root; of nothing, 0, with a gradient of 0 rather than infinity."""
    positive = variance > 0
    return torch.where(positive, variance.where(positive, torch.ones_like(variance)).sqrt(), 0)


def halfway(mean: Tensor, std: Tensor, data_mean: float, data_std: float) -> tuple[Tensor, Tensor]:
    """Statistics between each clip's and the data set's: the middle of the means, the geometric one of the spreads.

    Those of clips are [shape=(n_clips,)]; of the spread, at least a tenth of ``data_std`` counts.
    """
    return (mean + data_mean) / 2, (std.clamp_min(MIN_SHARE * data_std) * data_std).sqrt()


def standardize(spectrograms: Tensor, mean: Tensor | float, std: Tensor | float) -> Tensor:
    """Subtract the mean from [shape=(n_clips, ...)] and divide by the spread; spreads under 1e-5 count as 1e-5.

    Mean and spread are numbers, or one a clip [shape=(n_clips,)].
    """
    if isinstance(mean, Tensor) and isinstance(std, Tensor) and mean.ndim:
        trailing = (1,) * (spectrograms.ndim - 1)
        mean, std = mean.view(-1, *trailing), std.view(-1, *trailing)
    if isinstance(std, Tensor):
        std = std.clamp_min(MIN_STD)
    return (spectrograms - mean) / std
