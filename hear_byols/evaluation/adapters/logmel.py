"""Log-mel statistics as a HEAR module: of each of the 64 bands over time the mean, the standard deviation, the maximum,
and the standard deviation of differences between neighbouring frames.

The floor that any trained model must beat; nothing is learnt. The front end is the package's own.
"""

import torch
from torch import Tensor, nn

from hear_byols.framing import Framing
from hear_byols.frontend import LogMel, SharedSpectrogram
from hear_byols.inputs import pad_short

_WINDOWS = 64  # at a time
_MIN_SAMPLES = 1600  # 100 ms; shorter clips are followed by zeros, as the encoders' are


class LogMelStatistics(nn.Module):
    """The features' model; ``frame_ms`` and ``hop_ms`` are those of timestamp embeddings."""

    def __init__(self, frame_ms: float = 1000, hop_ms: float = 50) -> None:
        super().__init__()
        self.log_mel = LogMel()
        self.sample_rate = self.log_mel.config.sample_rate
        self.scene_embedding_size = self.timestamp_embedding_size = 4 * self.log_mel.config.n_mels
        self.framing = Framing(frame_ms, hop_ms, self.sample_rate)

    def forward(self, audio: Tensor) -> Tensor:
        """(n_clips, n_samples) -> (n_clips, 256)."""
        return _statistics(self.log_mel(pad_short(audio, _MIN_SAMPLES)))

    def windows(self, audio: Tensor) -> Tensor:
        """(n_clips, n_samples) -> (n_clips, n_windows, 256)."""
        n_windows = self.framing.n_windows(audio.shape[1])
        padded = nn.functional.pad(audio, self.framing.padding)
        spectrograms = SharedSpectrogram(self.log_mel, self.framing.frame_samples)
        blocks = []
        for first in range(0, n_windows, _WINDOWS):
            starts = torch.tensor(self.framing.starts(first, min(first + _WINDOWS, n_windows)))
            blocks.append(_statistics(spectrograms(padded, starts)))
        return torch.cat(blocks, 1)


def _statistics(spectrograms: Tensor) -> Tensor:
    """(..., 64, n_frames) -> (..., 256)."""
    std, mean = torch.std_mean(spectrograms, -1)
    return torch.cat([mean, std, spectrograms.amax(-1), spectrograms.diff(dim=-1).std(-1)], -1)


def load_model(model_file_path: str = "", *, frame_ms: float = 1000, hop_ms: float = 50) -> LogMelStatistics:
    """Make the features' model; there are no weights, so the path is ignored."""
    return LogMelStatistics(frame_ms, hop_ms)


def get_scene_embeddings(audio: Tensor, model: LogMelStatistics) -> Tensor:
    """Statistics of whole clips: float32 (n_clips, n_samples) -> (n_clips, 256)."""
    with torch.no_grad():
        return model(audio)


def get_timestamp_embeddings(audio: Tensor, model: LogMelStatistics) -> tuple[Tensor, Tensor]:
    """Statistics of windows: -> (n_clips, n_windows, 256) and their centres in ms, (n_clips, n_windows)."""
    with torch.no_grad():
        return model.windows(audio), model.framing.times(audio)
