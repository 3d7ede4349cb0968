"""openSMILE's ComParE 2016 functionals as a model with the HEAR interface (paper, sections 2.2 and 3.4).

openSMILE is source-available software of audEERING GmbH. Its licence allows private, research and educational use;
commercial use of the software, or of features or models made with it, needs a licence from audEERING
(https://www.audeering.com). It is not part of this package and comes with the extra ``hear_byols[opensmile]``.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hear_byols._util.imports import require
from hear_byols._util.numbers import positive_count
from hear_byols.errors import InputError
from hear_byols.framing import Framing
from hear_byols.inputs import BatchLike, check_batch, check_clips, is_list
from hear_byols.weights.registry import known_record

N_FEATURES = 6373
SAMPLE_RATE = 16000
MIN_SAMPLES = 960  # 60 ms, the shortest input for which openSMILE yields ComParE functionals at 16 kHz
_HIGHEST = np.float32(32767 / 32768)  # opensmile casts 32768 * sample to int16, where 1.0 would wrap around to -1.0


class OpenSmileModel(nn.Module):
    """ComParE 2016 functionals, 6373 hand-crafted features, with the interface of ``EmbeddingModel``.

    The values are openSMILE's own, neither scaled nor standardized: they reach 1e13, so a classifier needs them
    standardized over its training set (the paper standardizes per fold, section 3.4). Clips and windows shorter than
    60 ms are followed by zeros up to 60 ms; samples outside [-1, 1) are clipped; a feature that is NaN or infinite
    becomes 0. Extraction runs on the CPU, one clip or window at a time, wherever the model and the audio are, and has
    no gradient.

    openSMILE's licence covers research and private use only; see this module's first lines.

    Args:
        frame_ms: window of timestamp embeddings in milliseconds.
        hop_ms: distance of two timestamps in milliseconds.
        batch_size: most clips or windows at a time; one, whatever it is.

    Raises:
        MissingDependencyError: opensmile is not installed.
        OptionError: an option is out of range.
    """

    _place: Tensor

    def __init__(self, *, frame_ms: float = 1000, hop_ms: float = 50, batch_size: int | None = None) -> None:
        super().__init__()
        positive_count("batch_size", batch_size)
        self.sample_rate = SAMPLE_RATE
        self.framing = Framing(frame_ms, hop_ms, SAMPLE_RATE)
        self.scene_embedding_size = N_FEATURES
        self.timestamp_embedding_size = N_FEATURES
        place = torch.empty(0, dtype=torch.float32, device="cpu")
        self.register_buffer("_place", place, persistent=False)  # follows .to(device)
        self._smile = _make_smile()
        self.provenance = {
            "name": "opensmile",
            "description": _description(),
            "licence": known_record("opensmile").licence,
        }
        self.eval()

    normalization = None
    batch_invariant = True

    @property
    def device(self) -> torch.device:
        """Where the model expects audio and returns embeddings; the work itself is done on the CPU."""
        return self._place.device

    def forward(self, audio: BatchLike) -> Tensor:
        """The same as :meth:`scene_embeddings`: nothing here can be trained.

        Raises:
            InputError: as there; or the audio requires a gradient, which openSMILE does not have.
        """
        if any(getattr(clip, "requires_grad", False) for clip in (audio if is_list(audio) else [audio])):
            raise InputError("openSMILE passes no gradient to the audio; give it audio.detach()")
        return self.scene_embeddings(audio)

    def scene_embeddings(self, audio: BatchLike) -> Tensor:
        """Compute the functionals of whole clips; arguments, result and errors as of ``EmbeddingModel``."""
        clips = check_clips(audio, self.device) if is_list(audio) else check_batch(audio, self.device)
        features = np.stack([self._features(clip.detach().cpu().numpy()) for clip in clips])
        return torch.from_numpy(features).to(self.device)

    def timestamp_embeddings(self, audio: BatchLike) -> tuple[Any, Any]:
        """Compute the functionals of the windows that ``EmbeddingModel`` embeds, padded as there."""
        if not is_list(audio):
            return self._embed_windows(check_batch(audio, self.device))
        pairs = [self._embed_windows(clip[None]) for clip in check_clips(audio, self.device)]
        return [vectors[0] for vectors, _ in pairs], [times[0] for _, times in pairs]

    def _embed_windows(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        n_clips, n_samples = audio.shape
        result = audio.new_empty(n_clips, self.framing.n_windows(n_samples), N_FEATURES, requires_grad=False)
        for rows, clip in zip(result, audio.detach().cpu().numpy(), strict=True):
            for row, window in zip(rows, self._windows(clip), strict=True):
                row.copy_(torch.from_numpy(self._features(window)))
        times = torch.tensor(self.framing.timestamps_ms(n_samples), dtype=torch.float32, device=audio.device)
        return result, times.repeat(n_clips, 1)

    def _windows(self, clip: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the windows of a clip lazily, each [shape=(frame_samples,)], zeros outside the clip."""
        length, (before, _) = self.framing.frame_samples, self.framing.padding
        for i in range(self.framing.n_windows(clip.size)):
            first = self.framing.starts(i, i + 1)[0] - before
            window = np.zeros(length, np.float32)
            inside = clip[max(first, 0) : max(first + length, 0)]
            window[max(-first, 0) : max(-first, 0) + inside.size] = inside
            yield window

    def functionals(self, samples: np.ndarray) -> np.ndarray:
        """openSMILE's values of one clip as they are: NaN or infinite where it has none.

        Args:
            samples: mono float32 at 16 kHz [shape=(n_samples,)]; padded and clipped as described above.

        Returns:
            float32 [shape=(6373,)].
        """
        samples = np.pad(samples, (0, max(0, MIN_SAMPLES - samples.size))).clip(-1, _HIGHEST)
        return self._smile(samples, self.sample_rate).reshape(-1).astype(np.float32)

    def _features(self, samples: np.ndarray) -> np.ndarray:
        """Float32 (n_samples,) -> float32 (6373,), finite."""
        return np.nan_to_num(self.functionals(samples), nan=0, posinf=0, neginf=0)


def _make_smile() -> Any:
    _load_library_apart()
    opensmile = require("opensmile", "openSMILE (free for research, not for products)", "opensmile")
    return opensmile.Smile(opensmile.FeatureSet.ComParE_2016, opensmile.FeatureLevel.Functionals)


def _load_library_apart() -> None:
    """Load openSMILE's library so that it prefers its own symbols, before opensmile itself loads it.

    Where TensorFlow is in the process already, as in the HEAR kits, openSMILE would call into it and crash.
    """
    own_symbols_first = getattr(os, "RTLD_DEEPBIND", None)  # Linux only
    spec = find_spec("opensmile")
    if own_symbols_first is None or spec is None or spec.origin is None:
        return
    for library in Path(spec.origin).parent.glob("core/bin/*/libSMILEapi.so"):
        with suppress(OSError):  # of another platform
            ctypes.CDLL(str(library), mode=os.RTLD_NOW | own_symbols_first)


def _description() -> str:
    from importlib.metadata import version

    return f"ComParE 2016 functionals of the opensmile package {version('opensmile')}; nothing is trained"
