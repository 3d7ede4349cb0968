"""openSMILE's ComParE 2016 functionals as a model with the HEAR interface (paper, sections 2.2 and 3.4).

openSMILE is source-available software of audEERING GmbH. Its licence allows private, research and educational use;
commercial use of the software, or of features or models made with it, needs a licence from audEERING
(https://www.audeering.com). It is not part of this package and comes with the extra ``hear_byols[opensmile]``.
"""

import ctypes
import os
from contextlib import suppress
from importlib.metadata import version
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
from hear_byols.inputs import BatchLike, by_clip, check_batch, check_clips, is_list
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
        self.scene_embedding_size = self.timestamp_embedding_size = N_FEATURES
        place = torch.empty(0, dtype=torch.float32, device="cpu")
        self.register_buffer("_place", place, persistent=False)  # follows .to(device)
        _load_library_apart()
        opensmile = require("opensmile", "openSMILE (free for research, not for products)", "opensmile")
        self._smile = opensmile.Smile(opensmile.FeatureSet.ComParE_2016, opensmile.FeatureLevel.Functionals)
        description = f"ComParE 2016 functionals of the opensmile package {version('opensmile')}; nothing is trained"
        licence = known_record("opensmile").licence
        self.provenance = {"name": "opensmile", "description": description, "licence": licence}
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
        return by_clip(audio, self.device, lambda clips, _: self._embed_windows(clips))

    def _embed_windows(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        n_windows = self.framing.n_windows(audio.shape[1])
        result = audio.new_empty(len(audio), n_windows, N_FEATURES, requires_grad=False)
        for i, _, windows in self.framing.stretches(audio.detach().cpu(), 1):
            features = np.stack([self._features(window) for window in windows.numpy()])
            result[:, i] = torch.from_numpy(features).to(result.device)
        return result, self.framing.times(audio)

    def functionals(self, samples: np.ndarray) -> np.ndarray:
        """openSMILE's values of one clip as they are, float32 [shape=(6373,)]: NaN or infinite where it has none.

        Samples are mono float32 at 16 kHz [shape=(n_samples,)]; they are padded and clipped as described above.
        """
        samples = np.pad(samples, (0, max(0, MIN_SAMPLES - samples.size))).clip(-1, _HIGHEST)
        return self._smile(samples, self.sample_rate).reshape(-1).astype(np.float32)

    def _features(self, samples: np.ndarray) -> np.ndarray:
        """Float32 (n_samples,) -> float32 (6373,), finite."""
        return np.nan_to_num(self.functionals(samples), nan=0, posinf=0, neginf=0)


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
