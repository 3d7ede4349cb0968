"""A teacher as a model: the interface of ``EmbeddingModel``, so that it can be embedded, evaluated and concatenated."""

from typing import Any

import torch
from torch import Tensor, nn

from hear_byols._util.numbers import positive_count
from hear_byols.framing import Framing
from hear_byols.inputs import BatchLike, by_clip, check_batch, check_clips, is_list
from hear_byols.teachers.base import Teacher, over_time
from hear_byols.weights.records import TeacherRecord

_SAMPLES_PER_CALL = 64 * 16000  # by default; memory grows with them


class TeacherModel(nn.Module):
    """Embeds with a teacher: mean and maximum of its frames over a clip, or over windows of ``frame_ms``.

    A clip goes through the teacher once. Its timestamps are those of ``EmbeddingModel``; the window around each holds
    the frames whose centres lie in it, or else the nearest one.

    Args:
        teacher: from ``load_teacher``.
        record: the teacher's.
        frame_ms: window of timestamp embeddings in milliseconds.
        hop_ms: distance of two timestamps in milliseconds.
        batch_size: most clips in one call of the teacher; by default as many as hold 64 s.

    Raises:
        OptionError: an option is out of range.
    """

    normalization = None  # no two teachers agree on one
    batch_invariant = True

    def __init__(
        self,
        teacher: Teacher,
        record: TeacherRecord,
        *,
        frame_ms: float = 1000,
        hop_ms: float = 50,
        batch_size: int | None = None,
    ) -> None:
        super().__init__()
        self.encoder = teacher
        self.batch_size = positive_count("batch_size", batch_size)
        self.sample_rate = teacher.sample_rate
        self.framing = Framing(frame_ms, hop_ms, self.sample_rate)
        self.scene_embedding_size = self.timestamp_embedding_size = teacher.scene_embedding_size
        told = ("name", "description", "licence", "commercial", "data", "reference")
        self.provenance = {name: getattr(record, name) for name in told}
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the model is, and where it expects audio."""
        return self.encoder.device

    def forward(self, audio: Tensor) -> Tensor:
        """Embed whole clips, differentiably: (n_clips, n_samples) -> (n_clips, scene_embedding_size)."""
        return torch.cat([over_time(self.encoder(part)) for part in self._parts(check_batch(audio, self.device))])

    @torch.no_grad()
    def scene_embeddings(self, audio: BatchLike) -> Tensor:
        """Embed whole clips; arguments, result and errors as of ``EmbeddingModel``."""
        if not is_list(audio):
            return self(audio)
        return torch.cat([over_time(self.encoder(clip[None])) for clip in check_clips(audio, self.device)])

    @torch.no_grad()
    def timestamp_embeddings(self, audio: BatchLike) -> tuple[Any, Any]:
        """Embed windows of ``frame_ms`` centred every ``hop_ms``, as ``EmbeddingModel`` does."""
        return by_clip(audio, self.device, lambda clips, _: (self._over_windows(clips), self.framing.times(clips)))

    def _parts(self, audio: Tensor) -> tuple[Tensor, ...]:
        return audio.split(self.batch_size or max(1, _SAMPLES_PER_CALL // audio.shape[1]))

    def _over_windows(self, audio: Tensor) -> Tensor:
        """Windows of clips of equal length [shape=(n_clips, n_windows, timestamp_embedding_size)]."""
        return torch.cat([self._windows_of(self.encoder(part), audio.shape[1]) for part in self._parts(audio)])

    def _windows_of(self, frames: Tensor, n_samples: int) -> Tensor:
        """Frames [shape=(n_clips, n_frames, size)] to windows."""
        centres = self.encoder.times_ms(frames.shape[1], n_samples)
        times = torch.tensor(self.framing.timestamps_ms(n_samples), dtype=torch.float32)
        half = self.framing.frame_ms / 2
        nearest = ((times - centres[0]) / self.encoder.frame_ms).round().long().clamp(0, len(centres) - 1)
        first = torch.minimum(torch.searchsorted(centres, times - half), nearest)
        stop = torch.maximum(torch.searchsorted(centres, times + half, right=True), nearest + 1)
        bounds = zip(first.tolist(), stop.tolist(), strict=True)
        return torch.stack([over_time(frames[:, begin:end]) for begin, end in bounds], 1)
