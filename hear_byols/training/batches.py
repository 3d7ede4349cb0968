"""Batches of log-mel crops: drawn anew from the pool, or the fixed crops that have hand-crafted features."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hear_byols.frontend import LogMel
from hear_byols.training.data import AudioPool, draw_crops
from hear_byols.training.targets import FeatureStore, Standardizer

_CHUNK = 256  # crops whose spectrograms are computed at a time


def crop_samples(n_frames: int, hop_length: int = 160) -> int:
    """Fewest samples that give ``n_frames`` centred frames: 96 frames are 15200 samples, 0.95 s."""
    return (n_frames - 1) * hop_length


def log_mel_crops(pool: AudioPool, places: np.ndarray, n_samples: int, log_mel: LogMel) -> Tensor:
    """Compute the log-mels of crops.

    Args:
        pool: audio.
        places: clip and first sample of each crop [shape=(n_crops, 2)].
        n_samples: length of a crop in samples.
        log_mel: the front end.

    Returns:
        float16 [shape=(n_crops, 1, mel, time)].
    """
    blocks = []
    for i in range(0, len(places), _CHUNK):
        audio = np.stack([pool.crop(clip, start, n_samples) for clip, start in places[i : i + _CHUNK]])
        blocks.append(log_mel(torch.from_numpy(audio).float() / 32768)[:, None].half())
    return torch.cat(blocks)


class RandomCrops:
    """Crops drawn anew for every batch, uniform over time, for self-supervised pre-training.

    Args:
        pool: audio.
        n_samples: length of a crop in samples.
        log_mel: the front end.
    """

    def __init__(self, pool: AudioPool, n_samples: int, log_mel: LogMel) -> None:
        self.pool = pool
        self.n_samples = n_samples
        self.log_mel = log_mel

    def draw(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, None]:
        """Return log-mels, float32 [shape=(batch_size, 1, mel, time)], and no features."""
        seed = int(torch.randint(2**62, (), generator=generator))
        places = draw_crops(self.pool, batch_size, self.n_samples, np.random.default_rng(seed))
        return log_mel_crops(self.pool, places, self.n_samples, self.log_mel).float(), None

    def refresh(self) -> None:
        """Nothing to do: the pool is fixed."""


class FixedCrops:
    """Crops with hand-crafted features, log-mels and features held in memory in half precision.

    Args:
        pool: audio.
        store: the crops' places and features; rows that another process adds are taken in by :meth:`refresh`.
        n_samples: length of a crop in samples.
        log_mel: the front end.
        standardizer: of the features; measured on the present rows if not given.
    """

    def __init__(
        self,
        pool: AudioPool,
        store: FeatureStore,
        n_samples: int,
        log_mel: LogMel,
        standardizer: Standardizer | None = None,
    ) -> None:
        self.pool = pool
        self.store = store
        self.n_samples = n_samples
        self.log_mel = log_mel
        self.standardizer = standardizer or Standardizer.fit(store.features())
        n_mels, n_frames = log_mel.config.n_mels, log_mel.n_frames(n_samples)
        self._log_mels = torch.empty((0, 1, n_mels, n_frames), dtype=torch.float16)
        self._targets = torch.empty((0, len(self.standardizer.std)), dtype=torch.float16)
        self.refresh()

    def __len__(self) -> int:
        return len(self._log_mels)

    def refresh(self) -> None:
        """Take in the rows that the store has gained."""
        features = self.store.features()
        new = slice(len(self), len(features))
        if new.start == new.stop:
            return
        log_mels = log_mel_crops(self.pool, self.store.places()[new], self.n_samples, self.log_mel)
        targets = torch.from_numpy(self.standardizer(features[new])).half()
        self._log_mels = torch.cat([self._log_mels, log_mels])
        self._targets = torch.cat([self._targets, targets])

    def draw(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return log-mels [shape=(batch_size, 1, mel, time)] and features [shape=(batch_size, 6373)], float32."""
        rows = torch.randint(len(self), (batch_size,), generator=generator)
        return self._log_mels[rows].float(), self._targets[rows].float()
