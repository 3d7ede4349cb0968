"""A model and a feature extractor for ``AutoModel`` and ``AutoFeatureExtractor`` of ``transformers``.

A repository that this package published imports them (``trust_remote_code=True``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchFeature, PretrainedConfig, PreTrainedModel, SequenceFeatureExtractor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from hear_byols.ecosystem.hub import HubModel
from hear_byols.errors import OptionError

_OF_THE_AUTO_CLASS = ("trust_remote_code", "code_revision", "adapter_kwargs", "_from_auto", "_commit_hash")


class HearByolsConfig(PretrainedConfig):
    """Size of a vector and rate in Hz of the audio; what a vector depends on stands in the checkpoint."""

    model_type = "hear_byols"

    def __init__(self, hidden_size: int = 2048, sampling_rate: int = 16000, **kwargs: Any) -> None:
        self.hidden_size = hidden_size
        self.sampling_rate = sampling_rate
        super().__init__(**kwargs)


class HearByolsFeatureExtractor(SequenceFeatureExtractor):
    """Clips of any lengths to one tensor: padded with zeros behind, with a mask; the log-mel is the model's part."""

    model_input_names = ["input_values", "attention_mask"]  # noqa: RUF012 - as transformers has it

    def __init__(
        self, feature_size: int = 1, sampling_rate: int = 16000, padding_value: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(feature_size=feature_size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)

    def __call__(
        self, raw_speech: np.ndarray | Sequence[Any], sampling_rate: int | None = None, **options: Any
    ) -> BatchFeature:
        """Pad clips to the longest.

        Args:
            raw_speech: samples in [-1, 1] [shape=(n_samples,)], or a list of such of any lengths.
            sampling_rate: of the samples in Hz, which must be the model's.
            **options: of ``SequenceFeatureExtractor.pad``, such as ``return_tensors="pt"``.

        Raises:
            OptionError: the sampling rate is another.
        """
        if sampling_rate not in (None, self.sampling_rate):
            raise OptionError(
                f"the model takes {self.sampling_rate} Hz, got {sampling_rate}; hear_byols.load_audio resamples"
            )
        clips = [raw_speech] if np.ndim(raw_speech[0]) == 0 else raw_speech
        values = BatchFeature({"input_values": [np.asarray(clip, np.float32) for clip in clips]})
        return self.pad(values, **options)


class HearByolsModel(PreTrainedModel):
    """An ``EmbeddingModel`` (attribute ``model``) behind the words of ``transformers``."""

    config_class = HearByolsConfig
    main_input_name = "input_values"

    def __init__(self, config: HearByolsConfig, model: HubModel | None = None) -> None:
        if model is None:
            raise OptionError("weights and settings are in the checkpoint: use from_pretrained")
        super().__init__(config)
        self.post_init()  # before there is anything that it could initialize
        self.model = model

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *_: Any,
        config: HearByolsConfig | None = None,
        revision: str | None = None,
        **options: Any,
    ) -> HearByolsModel:
        """Load a repository or a folder; ``options`` are those of ``load_model``.

        Raises:
            HearByolsError: as ``hear_byols.from_pretrained``.
        """
        options = {name: value for name, value in options.items() if name not in _OF_THE_AUTO_CLASS}
        is_folder = os.path.isdir(pretrained_model_name_or_path)
        model = HubModel.from_pretrained(
            pretrained_model_name_or_path, revision=None if is_folder else revision, **options
        )
        return cls(config or HearByolsConfig(model.scene_embedding_size, model.sample_rate), model)

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        timestamps: bool = False,
        return_dict: bool | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPooling | tuple[Any, ...]:
        """Embed clips, with gradients where they are enabled. Padding changes nothing.

        Args:
            input_values: samples [shape=(n_clips, n_samples)].
            attention_mask: 1 on samples, 0 on the padding behind them [shape=(n_clips, n_samples)].
            timestamps: compute ``last_hidden_state`` too, without gradients.
            return_dict: False for a tuple.

        Returns:
            ``pooler_output``: scene embeddings [shape=(n_clips, hidden_size)]; ``last_hidden_state``: None, or
            timestamp embeddings, with zeros behind those of shorter clips [shape=(n_clips, n_windows, hidden_size)].
        """
        n_samples = input_values.shape[1]
        lengths = [n_samples] * len(input_values) if attention_mask is None else attention_mask.sum(1).tolist()
        if len(set(lengths)) == 1:
            scenes = self.model(input_values[:, : lengths[0]])
        else:
            scenes = torch.cat([self.model(input_values[i : i + 1, :n]) for i, n in enumerate(lengths)])
        windows = None
        if timestamps:
            clips = [values[:n] for values, n in zip(input_values, lengths, strict=True)]
            windows = pad_sequence(self.model.timestamp_embeddings(clips)[0], batch_first=True)
        output = BaseModelOutputWithPooling(last_hidden_state=windows, pooler_output=scenes)
        return output if return_dict in (None, True) else output.to_tuple()

    def save_pretrained(self, save_directory: str | os.PathLike[str], **_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Write a repository into a folder."""
        self.model.save_pretrained(os.fspath(save_directory))

    def push_to_hub(self, repo_id: str, **options: Any) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As ``HubModel.push_to_hub``."""
        return self.model.push_to_hub(repo_id, **options)
