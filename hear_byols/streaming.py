"""Timestamp embeddings of audio that is still arriving (``docs/deploying.md``)."""

import math
from fractions import Fraction
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hear_byols.concatenated import require_encoder
from hear_byols.errors import InputError, OptionError
from hear_byols.inputs import ClipLike, check_values, check_vectors, to_tensor
from hear_byols.model import EmbeddingModel

_FINISHED = "the stream is finished; make a new StreamingEmbedder for another signal"


class StreamingEmbedder:
    """Embeds one endless signal in chunks, each window as soon as its last sample has come.

    All chunks together give what ``model.timestamp_embeddings`` gives for the whole signal, within float32 rounding;
    what is held in memory is less than a window and a hop of signal. The window centred at t ends
    ``model.framing.padding[1]`` samples, half a window, after t: that is the least latency, besides the computation.

    Args:
        model: from ``hear_byols.load_model``, with normalization ``dataset``: its fixed statistics do not wait for the
            end of the signal.

    Raises:
        OptionError: a model of another normalization, or one that is concatenated or openSMILE.
    """

    def __init__(self, model: EmbeddingModel) -> None:
        _require_streamable(model)
        self.model = model
        self.n_samples = 0  # heard so far
        self.finished = False
        self._framing = model.framing
        self._windows = model.window_encoder()
        self._next = 0  # number of the first window that is not yet complete
        # Positions count in the padded signal, which begins half a window before the first sample.
        self._held = model.log_mel.window.new_zeros(self._framing.padding[0])
        self._first = 0  # position of the first held sample

    def feed(self, chunk: ClipLike) -> tuple[Tensor, Tensor]:
        """Hear more of the signal.

        A chunk that is refused leaves the stream as it was.

        Args:
            chunk: mono float32 samples in [-1, 1] at ``model.sample_rate`` [shape=(n_samples,)], of any length, also
                none; a tensor or array on any device.

        Returns:
            Embeddings of the windows that are complete now, float32 [shape=(n_windows, timestamp_embedding_size)], and
            their centres in milliseconds from the first sample of the stream, float64 [shape=(n_windows,)].

        Raises:
            InputError: wrong rank, dtype or values; the message says where in the stream. Or the stream is finished,
                or an embedding is not finite.
        """
        if self.finished:
            raise InputError(_FINISHED)
        samples = to_tensor(chunk, "chunk")
        if samples.ndim != 1:
            raise InputError(f"a chunk must have the shape (n_samples,), got {tuple(samples.shape)}")
        if len(samples):
            check_values(samples[None], [f"the chunk that begins at sample {self.n_samples} of the stream"])
        n_samples = self.n_samples + len(samples)
        last_start = n_samples - self._framing.padding[1]  # of a window that is complete
        # Window i starts at i * hop, rounded to the nearest with halves upwards (Framing.starts).
        n_complete = math.ceil((last_start + Fraction(1, 2)) / self._framing.hop_samples)
        embedded = self._embed(samples.detach().to(self.model.device), max(n_complete, self._next))
        self.n_samples = n_samples
        return embedded

    def finish(self) -> tuple[Tensor, Tensor]:
        """End the signal: the remaining windows, which reach into the half window of zeros that follows it.

        Returns:
            As :meth:`feed`; nothing if no sample was heard.

        Raises:
            InputError: the stream is finished already.
        """
        if self.finished:
            raise InputError(_FINISHED)
        n_windows = self._framing.n_windows(self.n_samples) if self.n_samples else 0
        embedded = self._embed(self._held.new_zeros(self._framing.padding[1]), n_windows)
        self.finished = True
        return embedded

    def _embed(self, samples: Tensor, stop: int) -> tuple[Tensor, Tensor]:
        """Append samples, embed the windows up to number ``stop``, forget what no later window needs."""
        signal = torch.cat([self._held, samples])
        model = self.model
        size = model.timestamp_embedding_size
        vectors = torch.empty(stop - self._next, size, dtype=torch.float32, device=model.device)
        step = model.batch_for(self._windows.n_frames)
        with model.inference() as encoder:
            for i in range(self._next, stop, step):
                starts = torch.tensor(self._framing.starts(i, min(i + step, stop)), device="cpu")
                first, last = (int(start) - self._first for start in (starts[0], starts[-1]))
                stretch = signal[None, first : last + self._framing.frame_samples]
                frames = partial(model.shared_spectrogram.frames, stretch, starts - starts[0])
                norm = model.config.normalization.of_dataset
                embedded = model.encode_windows(self._windows, starts, frames, norm, encoder)[0]
                vectors[i - self._next :][: len(starts)] = embedded
        times = [i * self._framing.hop_ms for i in range(self._next, stop)]
        check_vectors(vectors, lambda row: f"the window at {times[row]:g} ms of the stream")
        self._next = stop
        n_forgotten = min(self._framing.starts(stop, stop + 1)[0] - self._first, len(signal))
        self._held = signal[n_forgotten:].clone()  # a view would keep the whole chunk
        self._first += n_forgotten
        return vectors, torch.tensor(times, dtype=torch.float64, device="cpu").to(model.device)


def _require_streamable(model: Any) -> None:
    norm = require_encoder(model, "stream", "streamed").config.normalization
    if norm.mode == "dataset":
        return
    need = "the whole call" if norm.mode == "original" else "the whole clip"
    remedy = "this checkpoint holds no data-set statistics, so it cannot be streamed"
    if norm.mean is not None:
        remedy = 'load the model with load_model(..., normalization="dataset")'
    raise OptionError(f"normalization {norm.mode!r} needs {need} before its first embedding; {remedy}")
