"""Shapes shared by the encoders' ends."""

import torch
from torch import Tensor


def channels_last(x: Tensor) -> Tensor:
    """The same values with the channel fastest in memory: convolutions and pooling are faster so, on CPUs and GPUs."""
    return x.to(memory_format=torch.channels_last)  # contiguous() would leave a single channel as it is


def time_major(features: Tensor) -> Tensor:
    """Feature maps by time step, the channel fastest: (batch, channels, mel, time) -> (batch, time, mel * channels)."""
    return features.permute(0, 3, 2, 1).flatten(2)


def mean_max(sequence: Tensor) -> Tensor:
    """Sum of temporal mean and maximum, which the paper keeps of BYOL-A: (batch, time, size) -> (batch, size)."""
    return sequence.mean(1) + torch.amax(sequence, 1)
