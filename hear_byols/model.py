"""The model object: waveform -> log-mel -> standardization -> encoder, batched and windowed.

:class:`EmbeddingModel` owns everything that fixes a vector. Memory beyond the input and the result is bounded: windows
are made lazily from stretches of the signal, and batches hold a limited number of spectrogram frames.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hear_byols import scenes
from hear_byols._util.device import autocast
from hear_byols._util.host import evaluation_view, plain_defaults, undisturbed
from hear_byols._util.numbers import positive_count
from hear_byols.config import PRECISIONS, ModelConfig
from hear_byols.encoders import build_encoder
from hear_byols.encoders.multilayer import MultilayerEncoder
from hear_byols.encoders.overlap import WindowEncoder
from hear_byols.errors import InputError, OptionError
from hear_byols.framing import Framing
from hear_byols.frontend import LogMel, SharedSpectrogram
from hear_byols.inputs import BatchLike, by_clip, by_length, check_batch, check_clips, check_vectors, is_list, pad_short
from hear_byols.normalization import Moments, halfway, standardize

MIN_CLIP_MS = 100  # shorter clips are followed by zeros up to this length
# Spectrogram frames that one encoder call takes by default: enough to keep the device busy, few enough to stay small.
_FRAMES_PER_BATCH = {"cpu": 2048}
_FRAMES_PER_BATCH_GPU = 65536

Frames = Callable[[Tensor, Tensor], Iterable[Tensor]]  # gives spectrogram frames, see SharedSpectrogram.frames
Statistics = tuple[Tensor | float, Tensor | float]  # mean and spread
_UNUSED = (0.0, 1.0)  # instead of those of the call, where the mode is another than "original"


class EmbeddingModel(nn.Module):
    """An audio embedding model that satisfies the HEAR contract.

    The module is in evaluation mode, float32 and on the CPU when made. :meth:`scene_embeddings` and
    :meth:`timestamp_embeddings` always compute in evaluation mode and float32 without gradients, whatever the host
    program has set, and change nothing that another thread could see. Calling the module computes scene embeddings
    differentiably, for the weights and the audio, and honours ``train()``, ``eval()`` and autocast, for fine-tuning.

    ``max_scene_s`` is the longest clip in seconds that a scene embedding takes: half an hour where the encoder attends
    over the whole clip, 8 minutes where it reads it in order, None (any) where its columns are local. It may be set.

    The options are those of :func:`hear_byols.load_model`.

    Args:
        config: encoder, front end and normalization.
        provenance: where the weights come from, as stored in the checkpoint.

    Raises:
        OptionError: an option is out of range.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        frame_ms: float = 1000,
        hop_ms: float = 50,
        normalization: str | None = None,
        layers: str | None = None,
        batch_size: int | None = None,
        precision: str = "float32",
        provenance: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if normalization is not None:
            config = replace(config, normalization=replace(config.normalization, mode=normalization))
        if layers is not None:
            config = replace(config, encoder=replace(config.encoder, layers=layers))
        if precision not in PRECISIONS:
            raise OptionError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}")
        self.config = config
        self.provenance = dict(provenance or {})
        self.sample_rate: int = config.frontend.sample_rate
        self.framing = Framing(frame_ms, hop_ms, self.sample_rate)
        self.batch_size = positive_count("batch_size", batch_size)
        self.precision = precision
        with plain_defaults():
            self.log_mel = LogMel(config.frontend)
            self.encoder = build_encoder(config.encoder, config.frontend.n_mels)
        self.scene_embedding_size: int = self.encoder.embedding_size
        self.timestamp_embedding_size: int = self.encoder.embedding_size
        self.max_scene_s: float | None = scenes.MAX_WHOLE_SCENE_S.get(config.encoder.name)
        fewest = max(self.log_mel.min_samples, (self.encoder.min_frames - 1) * config.frontend.hop_length)
        if self.framing.frame_samples < fewest:
            fewest_ms = 1000 * fewest / self.sample_rate
            raise OptionError(f"frame_ms must be at least {fewest_ms:g} for this encoder, got {frame_ms!r}")
        self.min_clip_samples = max(fewest, MIN_CLIP_MS * self.sample_rate // 1000)
        self.shared_spectrogram = SharedSpectrogram(self.log_mel, self.framing.frame_samples)
        self.eval()

    @property
    def normalization(self) -> str:
        """Mode of the spectrograms' normalization."""
        return self.config.normalization.mode

    @property
    def batch_invariant(self) -> bool:
        """Whether a clip's embedding is the same alone and among others of a call."""
        return self.normalization != "original"

    @property
    def device(self) -> torch.device:
        """Where the model is, and where it expects audio."""
        return self.log_mel.window.device

    def forward(self, audio: Tensor) -> Tensor:
        """Embed whole clips, differentiably: (n_clips, n_samples) -> (n_clips, scene_embedding_size).

        Raises:
            InputError: the audio has the wrong rank, dtype, device or values.
        """
        return self._embed_clips(check_batch(audio, self.device), self.encoder)

    def scene_embeddings(self, audio: BatchLike) -> Tensor:
        """Embed whole clips (paper, section 2.4).

        Args:
            audio: mono float32 samples in [-1, 1] at ``sample_rate`` [shape=(n_clips, n_samples)], or a list of clips
                of any lengths, each [shape=(n_samples,)]. Clips under 100 ms are followed by zeros up to 100 ms.

        Returns:
            float32 [shape=(n_clips, scene_embedding_size)], on the audio's device.

        Raises:
            InputError: the audio has the wrong rank, dtype, device or values; the message names the clip.
        """
        with self.inference() as encoder:
            if not is_list(audio):
                result = self._embed_clips(check_batch(audio, self.device), encoder)
            else:
                clips = check_clips(audio, self.device)
                if self.normalization == "original":
                    raise InputError("normalization 'original' takes one tensor of equal lengths; got a list of clips")
                result = torch.empty(len(clips), self.scene_embedding_size, dtype=torch.float32, device=self.device)
                for places in by_length(clips):
                    batch = torch.stack([clips[i] for i in places])
                    result[places] = self._embed_clips(batch, encoder, places)
            check_vectors(result, lambda i: f"clip {i}")
            return result

    def timestamp_embeddings(self, audio: BatchLike) -> tuple[Any, Any]:
        """Embed windows of ``frame_ms`` centred every ``hop_ms`` (paper, sections 2.4 and 3.5).

        A clip is padded by half a window of zeros on both sides, so the first centre is at 0 ms and a clip of
        ``n_samples`` has floor(n_samples / hop) + 1 windows.

        Args:
            audio: as in :meth:`scene_embeddings`; of any length from one sample.

        Returns:
            Embeddings, float32 [shape=(n_clips, n_windows, timestamp_embedding_size)], and window centres in
            milliseconds, float32 [shape=(n_clips, n_windows)]. For a list of clips: two lists of such, one a clip and
            without the first axis.

        Raises:
            InputError: as in :meth:`scene_embeddings`.
        """
        with self.inference() as encoder:
            return by_clip(audio, self.device, lambda clips, place: self._embed_windows(clips, encoder, place))

    @contextmanager
    def inference(self) -> Iterator[MultilayerEncoder]:
        """Yield the encoder in evaluation mode and float32; no gradients and no autocast of the host's within.

        The module itself, its flags and its buffers stay as they are.
        """
        if self.device.type == "meta":
            raise InputError("the model is on the device meta, without weights; load it anew on another device")
        with undisturbed(self.device):
            yield evaluation_view(self.encoder)

    def encode(self, spectrograms: Tensor, encoder: MultilayerEncoder) -> Tensor:
        """Encode standardized spectrograms: (batch, n_mels, n_frames) -> (batch, scene_embedding_size), float32."""
        with autocast(self.precision, self.device):
            weights = next(encoder.parameters(), spectrograms)  # of another type in a model made half or double
            return encoder(spectrograms[:, None].to(weights.dtype)).float()

    def batch_for(self, n_frames: int) -> int:
        """Windows or clips of ``n_frames`` spectrogram frames that go into one encoder call."""
        if self.batch_size is not None:
            return self.batch_size
        most = max(1, _FRAMES_PER_BATCH.get(self.device.type, _FRAMES_PER_BATCH_GPU) // n_frames)
        return most // self.encoder.batch_multiple * self.encoder.batch_multiple or most

    def window_encoder(self) -> WindowEncoder:
        """What embeds the windows of one signal in ascending order, and keeps what they share."""
        return WindowEncoder(self.encoder, self.shared_spectrogram.shared(), self.framing)

    def encode_windows(
        self, windows: WindowEncoder, starts: Tensor, frames: Frames, norm: Statistics, encoder: MultilayerEncoder
    ) -> Tensor:
        """Encode further windows of a signal: float32 [shape=(n_clips, n_windows, timestamp_embedding_size)].

        Args:
            windows: from :meth:`window_encoder`.
            starts: of the windows, int64 on the CPU [shape=(n_windows,)].
            frames: of ``shared_spectrogram``.
            norm: mean and spread.
            encoder: that :meth:`inference` yields.
        """
        with autocast(self.precision, self.device):
            return windows(starts, lambda *which: (standardize(x, *norm) for x in frames(*which)), encoder).float()

    def _embed_clips(self, audio: Tensor, encoder: MultilayerEncoder, places: Sequence[int] = (0,)) -> Tensor:
        is_local = encoder.border_frames is not None
        seconds, most_s = audio.shape[1] / self.sample_rate, self.max_scene_s
        if most_s is not None and seconds > most_s and not is_local:
            raise InputError(
                f"clip {places[0]} lasts {seconds / 60:.1f} minutes; the encoder {self.config.encoder.name!r} takes a "
                f"scene whole, in memory that grows with its length, and at most {most_s / 60:g} minutes. Embed "
                "timestamps instead, cut the recording, take a model with the encoder 'cnn' or 'resnetish34', or raise "
                "model.max_scene_s"
            )
        audio = pad_short(audio, self.min_clip_samples)
        n_frames = self.log_mel.n_frames(audio.shape[1])
        batches = audio.split(self.batch_for(n_frames))
        call: Statistics = _UNUSED
        if self.normalization == "original":  # means over the call of each clip's mean and of each clip's std
            pairs = [scenes.moments(self.log_mel, batch).mean_std() for batch in batches]
            call = torch.cat([mean for mean, _ in pairs]).mean(), torch.cat([std for _, std in pairs]).mean()
        if n_frames > scenes.STRETCH_FRAMES and is_local and not torch.is_grad_enabled():
            return torch.cat([self._embed_stretches(batch, encoder, call) for batch in batches])
        results = []
        for batch in batches:
            spectrograms = self.log_mel(batch)
            mean, std = self._statistics(lambda: Moments.of(spectrograms), call)  # noqa: B023 - called at once
            results.append(self.encode(standardize(spectrograms, mean, std), encoder))
        return torch.cat(results)

    def _embed_stretches(self, audio: Tensor, encoder: MultilayerEncoder, call: Statistics) -> Tensor:
        mean, std = self._statistics(lambda: scenes.moments(self.log_mel, audio), call)

        def columns(spectrograms: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
            with autocast(self.precision, self.device):
                return encoder.columns(standardize(spectrograms, mean, std)[:, None])

        return scenes.embed_in_stretches(self.log_mel, encoder, audio, columns)

    def _statistics(self, moments: Callable[[], Moments], call: Statistics) -> Statistics:
        """Mean and spread to standardize by: the data set's, the call's, each clip's own, or halfway to the set's."""
        norm = self.config.normalization
        if norm.mode == "dataset":
            return norm.of_dataset
        if norm.mode == "original":
            return call
        mean, std = moments().mean_std()
        return halfway(mean, std, *norm.of_dataset) if norm.mode == "halfway" else (mean, std)

    def _embed_windows(self, audio: Tensor, encoder: MultilayerEncoder, place: int) -> tuple[Tensor, Tensor]:
        """Embed the windows of clips of equal length, of which the first is number ``place`` of the call."""
        n_clips, n_samples = audio.shape
        n_windows = self.framing.n_windows(n_samples)
        result = audio.new_empty(n_clips, n_windows, self.timestamp_embedding_size)
        n_batch = self.batch_for(self.window_encoder().n_frames)
        if self.batch_size is None and n_windows > n_batch and self.window_encoder().shares:
            n_batch = math.ceil(n_windows / ((n_windows + n_batch // 4) // n_batch))  # fuller rather than a small rest

        def moments(clips: Tensor, known: list[Tensor] | None = None) -> Moments:
            stretches = self.framing.stretches(clips, n_batch // len(clips))
            return self.shared_spectrogram.moments(stretches, known)

        call: Statistics = _UNUSED
        if self.normalization == "original":
            mean, std = moments(audio).pooled()
            # The original divides the statistics of a call once more by its number of frames.
            call = mean / (n_clips * n_windows), std / (n_clips * n_windows)
        n_together = max(1, n_batch // n_windows)
        for first in range(0, n_clips, n_together):
            clips, windows, known = audio[first : first + n_together], self.window_encoder(), []
            norm = self._statistics(lambda: moments(clips, known), call)  # noqa: B023 - called at once, as below
            for i, starts, signal in self.framing.stretches(clips, n_batch // len(clips)):
                done = [known.pop(0)] if known else None
                compute = partial(self.shared_spectrogram.frames, signal, starts - starts[0])
                frames: Frames = lambda *which: done or compute(*which)  # noqa: B023, E731
                vectors, n = self.encode_windows(windows, starts, frames, norm, encoder), len(starts)
                check_vectors(vectors.flatten(0, 1), partial(self._window_name, place + first, i, n))
                result[first : first + n_together, i : i + n] = vectors
        return result, self.framing.times(audio)

    def _window_name(self, clip: int, window: int, n_windows: int, row: int) -> str:
        """Of a row of vectors that begin with a clip and window, ``n_windows`` of each clip."""
        clip, window = clip + row // n_windows, window + row % n_windows
        return f"the window at {window * self.framing.hop_ms:g} ms of clip {clip}"
