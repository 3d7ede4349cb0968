"""wav2vec 2.0 (Baevski et al. 2020) as a HEAR module, through the package transformers.

The other baseline of the paper: ``facebook/wav2vec2-large-100k-voxpopuli`` from the Hugging Face Hub. HEAR's own
``hearbaseline.wav2vec2`` needs a module that speechbrain has since dropped. A frame every 20 ms for timestamps, their
mean for scenes. ``pip install transformers``.
"""

import os
from typing import Any

import torch
from torch import Tensor, nn

from hear_byols._util.imports import require
from hear_byols.errors import InputError, WeightsNotFoundError
from hear_byols.weights.locate import offline, root_cause

DEFAULT = "facebook/wav2vec2-large-100k-voxpopuli"
RECEPTIVE_FIELD, HOP = 400, 320  # samples of the convolutional feature encoder


class Wav2Vec2(nn.Module):
    """The transformer's last hidden states; from the Hub, or from a folder that ``save_pretrained`` wrote."""

    sample_rate = 16000

    def __init__(self, source: str) -> None:
        super().__init__()
        options = {"local_files_only": offline() or os.path.isdir(source)}
        try:
            self.network: Any = require("transformers", "wav2vec 2.0").Wav2Vec2Model.from_pretrained(source, **options)
        except (OSError, ValueError) as error:
            text = f"{source}: wav2vec 2.0 weights could not be loaded ({root_cause(error)})"
            raise WeightsNotFoundError(text) from error
        self.scene_embedding_size = self.timestamp_embedding_size = int(self.network.config.hidden_size)
        # Models with layer norm in the feature encoder were trained on clips of mean 0 and variance 1.
        self.normalizes = self.network.config.feat_extract_norm == "layer"
        self.eval()

    def forward(self, audio: Tensor) -> Tensor:
        """(n_clips, n_samples) -> (n_clips, n_frames, size)."""
        if audio.shape[1] < RECEPTIVE_FIELD:
            raise InputError(f"wav2vec 2.0 needs clips of at least {RECEPTIVE_FIELD} samples, got {audio.shape[1]}")
        if self.normalizes:
            audio = (audio - audio.mean(1, keepdim=True)) / (audio.var(1, keepdim=True, correction=0) + 1e-7).sqrt()
        return self.network(audio).last_hidden_state


def load_model(model_file_path: str = "") -> Wav2Vec2:
    """Load a repository of the Hub or a local folder; by default the paper's baseline.

    Raises:
        MissingDependencyError: transformers is not installed.
        WeightsNotFoundError: no such weights, or none here while offline.
    """
    return Wav2Vec2(str(model_file_path) or DEFAULT)


def get_scene_embeddings(audio: Tensor, model: Wav2Vec2) -> Tensor:
    """Mean over frames: float32 (n_clips, n_samples) -> (n_clips, size)."""
    with torch.no_grad():
        return model(audio).mean(1)


def get_timestamp_embeddings(audio: Tensor, model: Wav2Vec2) -> tuple[Tensor, Tensor]:
    """A frame every 20 ms: -> (n_clips, n_frames, size) and the centres in ms, (n_clips, n_frames)."""
    with torch.no_grad():
        vectors = model(audio)
    centres = torch.arange(vectors.shape[1], dtype=torch.float32, device=audio.device) * HOP + RECEPTIVE_FIELD / 2
    return vectors, (1000 * centres / model.sample_rate).repeat(len(audio), 1)
