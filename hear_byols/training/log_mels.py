"""Operations on batches of log-mel crops, on their device: what augmentations draw numbers for."""

from __future__ import annotations

import torch
from torch import Tensor

from hear_byols.training.distributed import World

ALONE = World()
CUBIC_A = -0.75  # as torch's bicubic interpolation
VARIANCE_FLOOR = 1e-6


def log_mixup_exp(crops: Tensor, others: Tensor, ratios: Tensor) -> Tensor:
    """Mix log-mels as sounds mix, in the linear domain: log((1 - r) exp(x) + r exp(y)).

    Args:
        crops: x [shape=(batch, 1, mel, time)].
        others: y, same shape.
        ratios: r from 0 to 1 [shape=(batch,)].
    """
    ratios = ratios[:, None, None, None]
    return torch.logaddexp(crops + torch.log1p(-ratios), others + torch.log(ratios))


def resize_weights(starts: Tensor, sizes: Tensor, n_in: int, n_out: int) -> Tensor:
    """Bicubic interpolation along one axis as matrices: stretch [start, start + size) of the input to ``n_out``.

    Taps beyond the stretch repeat its edge, as interpolating the cut-out stretch alone would. Taps outside of the input
    have weight 0: the virtual canvas around it is 0.

    Args:
        starts: first positions, may be negative or leave the input behind; int64 [shape=(batch,)].
        sizes: lengths of the stretches, at least 1; int64 [shape=(batch,)].
        n_in: length of the input axis.
        n_out: length of the output axis.

    Returns:
        float32 [shape=(batch, n_out, n_in)].
    """
    device = starts.device
    scale = sizes[:, None].float() / n_out
    source = (torch.arange(n_out, device=device) + 0.5) * scale - 0.5  # (batch, n_out)
    base = source.floor()
    taps = torch.arange(-1, 3, device=device)
    weights = _cubic((source - base)[..., None] - taps)  # (batch, n_out, 4)
    positions = (base.long()[..., None] + taps).clamp_min(0).minimum(sizes[:, None, None] - 1)
    positions = positions + starts[:, None, None]
    inside = (positions >= 0) & (positions < n_in)
    matrix = torch.zeros(len(starts), n_out, n_in, device=device)
    return matrix.scatter_add_(2, positions.clamp(0, n_in - 1), weights * inside)


def _cubic(distance: Tensor) -> Tensor:
    """Keys' cubic convolution kernel."""
    d = distance.abs()
    near = ((CUBIC_A + 2) * d - (CUBIC_A + 3)) * d * d + 1
    far = ((d - 5) * d + 8) * d - 4
    return torch.where(d <= 1, near, torch.where(d < 2, CUBIC_A * far, torch.zeros_like(d)))


def resize_crop(crops: Tensor, mel: tuple[Tensor, Tensor], time: tuple[Tensor, Tensor]) -> Tensor:
    """Cut one rectangle out of each crop and stretch it to the crop's size.

    Args:
        crops: [shape=(batch, 1, mel, time)].
        mel: first bands and numbers of bands, int64 [shape=(batch,)] each.
        time: first frames (negative: in the empty canvas before the crop) and numbers of frames, same.

    Returns:
        Same shape.
    """
    n_mels, n_frames = crops.shape[2:]
    rows = resize_weights(*mel, n_mels, n_mels)
    columns = resize_weights(*time, n_frames, n_frames)
    return (rows @ crops[:, 0] @ columns.transpose(1, 2))[:, None]


def silence_outside(crops: Tensor, n_bands: Tensor, time: tuple[Tensor, Tensor], silence: float) -> Tensor:
    """Leave a rectangle of each crop, silence the rest: a recording of a lower rate, a sound that begins or ends.

    Args:
        crops: [shape=(batch, 1, mel, time)].
        n_bands: how many of the lowest bands stay, int64 [shape=(batch,)].
        time: first frames and numbers of frames that stay, int64 [shape=(batch,)] each.
        silence: what a log-mel of zeros is, in the crops' unit.
    """
    bands = torch.arange(crops.shape[2], device=crops.device)
    frames = torch.arange(crops.shape[3], device=crops.device)
    first, number = (t[:, None] for t in time)
    rows = bands < n_bands[:, None]
    columns = (frames >= first) & (frames < first + number)
    return torch.where(rows[:, None, :, None] & columns[:, None, None, :], crops, silence)


def linear_fader(crops: Tensor, heads: Tensor, tails: Tensor) -> Tensor:
    """Add a straight line in time to a log-mel: a sound that comes nearer or goes away (Niizumi et al. 2023).

    Args:
        crops: [shape=(batch, 1, mel, time)].
        heads: gain at the first frame, in the crops' unit [shape=(batch,)].
        tails: gain at the last frame, same.
    """
    ramp = torch.linspace(0, 1, crops.shape[3], device=crops.device)
    return crops + torch.lerp(heads[:, None], tails[:, None], ramp)[:, None, None]


def normalize_batch(crops: Tensor, world: World = ALONE) -> Tensor:
    """Standardize by the one mean and standard deviation of the whole batch, over all processes.

    Args:
        crops: this process's part of the batch [shape=(batch, 1, mel, time)].
        world: the processes.
    """
    mean = world.mean(crops.mean())
    centred = crops - mean
    count = crops.numel() * world.size
    variance = world.mean(centred.square().mean()) * (count / (count - 1))
    return centred / variance.clamp_min(VARIANCE_FLOOR).sqrt()
