"""Augmented views of log-mel crops, whole batches at a time on their device (paper, section 2; Niizumi et al. 2021).

Pre-normalisation, mixup with past inputs, random resize crop, post-normalisation. One generator drives all draws.
"""

from __future__ import annotations

import torch
from torch import Tensor

CUBIC_A = -0.75  # as torch's bicubic interpolation
VARIANCE_FLOOR = 1e-6


class MixupMemory:
    """First-in first-out memory of past inputs, the background sounds of mixup.

    Args:
        capacity: number of crops kept; 2048 in BYOL-A.
        shape: of one crop, (1, mel, time).
        device: where the crops are kept, in half precision.
    """

    def __init__(self, capacity: int, shape: tuple[int, ...], device: torch.device | str = "cpu") -> None:
        self._entries = torch.zeros((capacity, *shape), dtype=torch.float16, device=device)
        self._n_seen = 0

    def __len__(self) -> int:
        return min(self._n_seen, len(self._entries))

    def push(self, crops: Tensor) -> None:
        """Add crops [shape=(batch, 1, mel, time)]; the oldest make room."""
        crops = crops[-len(self._entries) :]
        places = (self._n_seen + torch.arange(len(crops), device=crops.device)) % len(self._entries)
        self._entries[places] = crops.to(self._entries.dtype)
        self._n_seen += len(crops)

    def take(self, indices: Tensor) -> Tensor:
        """Return the entries at int64 ``indices`` below ``len(self)``, float32."""
        return self._entries[indices].float()

    def state_dict(self) -> dict:
        """Content, for resuming."""
        return {"entries": self._entries, "n_seen": self._n_seen}

    def load_state_dict(self, state: dict) -> None:
        """Restore :meth:`state_dict`."""
        self._entries.copy_(state["entries"])
        self._n_seen = state["n_seen"]


def mixup(crops: Tensor, others: Tensor, ratios: Tensor) -> Tensor:
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


def normalise_batch(crops: Tensor) -> Tensor:
    """Standardise by the one mean and standard deviation of the whole batch."""
    return (crops - crops.mean()) / crops.var().clamp_min(VARIANCE_FLOOR).sqrt()


class ViewMaker:
    """Two augmented views of every crop of a batch.

    Args:
        mean: data-set mean of the log-mels.
        std: data-set standard deviation of the log-mels.
        generator: drives all draws; on the device of the crops.
        memory: past inputs for mixup.
        mixup_ratio: largest share of the background; 0 turns mixup off.
        mel_scale: smallest and largest height of a rectangle relative to the crop; heights stop at 1, the canvas.
        time_scale: smallest and largest width relative to the crop.
        time_canvas: width of the virtual canvas relative to the crop.
    """

    def __init__(
        self,
        mean: float,
        std: float,
        generator: torch.Generator,
        memory: MixupMemory,
        mixup_ratio: float = 0.4,
        mel_scale: tuple[float, float] = (0.6, 1.5),
        time_scale: tuple[float, float] = (0.6, 1.5),
        time_canvas: float = 1.5,
    ) -> None:
        self.mean = mean
        self.std = std
        self.generator = generator
        self.memory = memory
        self.mixup_ratio = mixup_ratio
        self.mel_scale = mel_scale
        self.time_scale = time_scale
        self.time_canvas = time_canvas

    def __call__(self, log_mels: Tensor) -> tuple[Tensor, Tensor]:
        """Make the views and remember the inputs.

        Args:
            log_mels: float32 [shape=(batch, 1, mel, time)].

        Returns:
            Two tensors of the same shape.
        """
        crops = (log_mels - self.mean) / self.std
        views = self._view(crops), self._view(crops)
        self.memory.push(crops)
        return views

    def _view(self, crops: Tensor) -> Tensor:
        return normalise_batch(self._resize_crop(self._mixup(crops)))

    def _mixup(self, crops: Tensor) -> Tensor:
        if not (len(self.memory) and self.mixup_ratio):
            return crops
        indices = self._uniform(crops, 0, len(self.memory)).long().clamp_max(len(self.memory) - 1)
        return mixup(crops, self.memory.take(indices), self._uniform(crops, 0, self.mixup_ratio))

    def _resize_crop(self, crops: Tensor) -> Tensor:
        n_mels, n_frames = crops.shape[2:]
        canvas = int(self.time_canvas * n_frames)
        margin = (canvas - n_frames) // 2
        first_mel, height = self._stretch(crops, self.mel_scale, n_mels, n_mels)
        first_frame, width = self._stretch(crops, self.time_scale, n_frames, canvas)
        return resize_crop(crops, (first_mel, height), (first_frame - margin, width))

    def _stretch(self, crops: Tensor, scale: tuple[float, float], n: int, canvas: int) -> tuple[Tensor, Tensor]:
        """Draw a length and a place on the canvas for every crop."""
        size = (self._uniform(crops, *scale) * n).long().clamp(1, canvas)
        start = (self._uniform(crops, 0, 1) * (canvas - size + 1)).long().minimum(canvas - size)
        return start, size

    def _uniform(self, crops: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(len(crops), generator=self.generator, device=crops.device) * (high - low) + low
