"""A model for the audio tasks of mteb (MAEB): ``mteb.evaluate(HearByols("cnn_hybrid"), tasks)``."""

import re
from typing import Any

import numpy as np
import soxr
import torch
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ScoringFunction

from hear_byols import __version__
from hear_byols._util.device import find_device
from hear_byols.extraction.files import PathLike
from hear_byols.hear import load_model
from hear_byols.interface import AudioModel
from hear_byols.weights.registry import DEFAULT_MODEL, find_record

OWNER = "hear-byols"  # mteb's names have an owner


class HearByols(AbsEncoder):
    """Scene embeddings under mteb's names: ``hear-byols/NAME``, or what ``load_model`` takes, whose options follow.

    mteb passes the revision of this package; the device is by default a GPU where there is one.
    """

    def __init__(
        self, model_name: PathLike = "", revision: str | None = None, device: str | None = None, **options: Any
    ) -> None:
        name = str(model_name).removeprefix(f"{OWNER}/") or DEFAULT_MODEL
        self.model = load_model(name, **options).to(find_device(device or "auto"))
        self.mteb_model_meta = model_meta(name, self.model)

    def encode(self, inputs: Any, **_: Any) -> np.ndarray:
        """Embed the audio of a data loader of mteb: float32 [shape=(n_rows, scene_embedding_size)].

        Args:
            inputs: a ``DataLoader`` of rows with ``audio``: ``{"array": ..., "sampling_rate": ...}``.
            **_: what mteb says of the task, which changes nothing.
        """
        inputs.collate_fn = list  # rows as they are; clips of different lengths make no tensor
        batches = [self.model.scene_embeddings([self._samples(row["audio"]) for row in rows]) for rows in inputs]
        return torch.cat(batches).cpu().numpy()

    def _samples(self, audio: Any) -> np.ndarray:
        """Mono samples at the model's rate, resampled as files are."""
        samples = np.asarray(audio["array"], np.float32)
        if samples.ndim == 2:
            samples = samples.mean(axis=int(samples.shape[0] > samples.shape[1]))
        if audio["sampling_rate"] != self.model.sample_rate:
            samples = soxr.resample(samples, audio["sampling_rate"], self.model.sample_rate, quality="HQ")
        return samples


def model_meta(name: str = DEFAULT_MODEL, model: AudioModel | None = None) -> ModelMeta:
    """What mteb wants to know of a model, of a name that ``load_model`` takes; what it files results under."""
    model, record = model or load_model(name), find_record(name)
    licence = record.licence.lower().replace(" ", "-") if record else ""
    return ModelMeta(
        loader=HearByols,  # pyright: ignore[reportArgumentType]
        name=f"{OWNER}/{re.sub('[^a-zA-Z0-9_.+-]+', '-', name)}",
        languages=None,
        open_weights=True,
        revision=__version__,
        release_date="2026-11-25",
        max_tokens=None,
        n_parameters=sum(weights.numel() for weights in model.state_dict().values()),
        n_embedding_parameters=0,
        memory_usage_mb=None,
        embed_dim=model.scene_embedding_size,
        license=licence if licence.startswith("cc-by") else None,  # pyright: ignore[reportArgumentType]
        reference=None,
        similarity_fn_name=ScoringFunction.COSINE,  # pyright: ignore[reportArgumentType]
        framework=["PyTorch"],
        use_instructions=False,
        public_training_code=None,
        public_training_data=None,
        training_datasets=None,
        modalities=["audio"],
    )
