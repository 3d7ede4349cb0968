"""The HEAR API: ``load_model``, ``get_scene_embeddings``, ``get_timestamp_embeddings``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from hear_byols._util.host import plain_defaults
from hear_byols.concatenated import ConcatenatedModel
from hear_byols.config import EncoderConfig, ModelConfig
from hear_byols.encoders import build_encoder
from hear_byols.errors import InputError, OptionError
from hear_byols.inputs import BatchLike
from hear_byols.interface import AudioModel
from hear_byols.model import EmbeddingModel
from hear_byols.weights.checkpoint import Checkpoint, read_checkpoint
from hear_byols.weights.locate import Source, existing_file, locate

if TYPE_CHECKING:
    from hear_byols.opensmile import OpenSmileModel
    from hear_byols.teachers import TeacherModel

RANDOM_SEED = 0  # of the untrained "random_*" baselines
_Model = TypeVar("_Model", bound=EmbeddingModel)


@plain_defaults()
def load_model(
    model_file_path: str | os.PathLike[str] = "",
    *,
    frame_ms: float = 1000,
    hop_ms: float = 50,
    normalization: str | None = None,
    layers: str | None = None,
    batch_size: int | None = None,
    precision: str = "float32",
    win_length: int | None = None,
) -> EmbeddingModel | OpenSmileModel | TeacherModel | ConcatenatedModel:
    """Load a model, ready to embed, on the CPU, in float32 and in evaluation mode, whatever the host's defaults.

    openSMILE has no use for ``normalization``, ``layers``, ``precision`` and ``win_length``, and teachers have none for
    these except ``precision``: in a concatenation they go to the other parts; without one that uses them they are
    refused. openSMILE works clip by clip, whatever the ``batch_size``.

    Args:
        model_file_path: empty for the default model; a path; a shipped file's name such as ``"cvt_hybrid.pth"``; a name
            of ``list_models()``; a teacher's, such as ``"mn04"``; ``"hf://owner/repo/file.pth@revision"``; or several
            of these joined by ``+``, such as ``"cvt_hybrid+opensmile"``, whose embeddings are concatenated.
        frame_ms: window of timestamp embeddings in milliseconds (the paper: 1000 and 500, Table 9).
        hop_ms: distance of two timestamps in milliseconds (HEAR advises at most 50).
        normalization: ``"dataset"``, ``"clip"``, ``"halfway"`` or ``"original"``; by default the checkpoint's own mode.
        layers: ``"last"``, the last layer's embedding, the paper's; ``"multi"``, with the temporal maxima of layers
            before it behind it; or ``"heads"``, what the model believes its teachers would say, principal components;
            by default the checkpoint's own.
        batch_size: most windows or clips in one encoder call; by default chosen by device and length.
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"`` arithmetic in the encoder.
        win_length: analysis window in samples for bare state dicts, which do not say it (NTT's BYOL-A: 1024).

    Returns:
        A ``torch.nn.Module`` with ``sample_rate``, ``scene_embedding_size`` and ``timestamp_embedding_size``.

    Raises:
        OptionError: an option is out of range, or of no use to the model.
        MissingDependencyError: ``"opensmile"`` without the package opensmile.
        WeightsNotFoundError: no such weights.
        DownloadError: the weights could not be fetched whole.
        CheckpointError: the file is not a checkpoint, or contradicts itself.
    """
    sources = {spec: locate(spec) for spec in split_spec(model_file_path)}
    common = {"frame_ms": frame_ms, "hop_ms": hop_ms, "batch_size": batch_size}
    own = {"normalization": normalization, "layers": layers, "precision": precision, "win_length": win_length}
    kinds = set(map(_kind, sources.values()))
    if "encoder" not in kinds:
        _refuse_options(own, "teacher" in kinds)
    models = [_load(source, spec, common, own) for spec, source in sources.items()]
    return models[0] if len(models) == 1 else ConcatenatedModel(models)


def split_spec(spec: str | os.PathLike[str]) -> Sequence[str | os.PathLike[str]]:
    """Split ``"a+b"`` into the models it joins; a ``+`` within the path of an existing file separates nothing.

    Raises:
        OptionError: a part is empty or occurs twice.
    """
    if not isinstance(spec, (str, os.PathLike)) or "+" not in str(spec):
        return [spec]
    pieces = os.fspath(spec).split("+")
    parts = []
    while pieces:
        longest = range(len(pieces), 1, -1)
        n = next((n for n in longest if existing_file("+".join(pieces[:n]))), 1)
        parts.append("+".join(pieces[:n]))
        pieces = pieces[n:]
    if "" in parts or len(set(parts)) < len(parts):
        raise OptionError(f"models joined by + must be named and different, got {str(spec)[:200]!r}")
    return parts


def _kind(source: Source) -> str:
    """``"opensmile"``, ``"teacher"`` or ``"encoder"``."""
    kind = source.record.source if source.record else ""
    return kind if kind in ("opensmile", "teacher") else "encoder"


def _refuse_options(own: dict[str, Any], is_teacher: bool) -> None:
    idle = {"precision": own["precision"] if is_teacher else "float32"}  # openSMILE's results are float32 anyway
    given = [f"{name}={value!r}" for name, value in own.items() if value not in (None, idle.get(name))]
    if given:
        takes = "a teacher takes the options frame_ms, hop_ms, batch_size and precision"
        takes = takes if is_teacher else "openSMILE takes the options frame_ms, hop_ms and batch_size"
        raise OptionError(f"{takes}; got {', '.join(given)}")


def _load(
    source: Source, spec: str | os.PathLike[str], common: dict[str, Any], own: dict[str, Any]
) -> EmbeddingModel | OpenSmileModel | TeacherModel:
    kind = _kind(source)
    if kind == "opensmile":
        from hear_byols.opensmile import OpenSmileModel

        return OpenSmileModel(**common)
    if kind == "teacher":
        from hear_byols.teachers import load_teacher_model

        return load_teacher_model(os.fspath(spec), precision=own["precision"], **common)
    return load_encoder(source, **common, **own)


def load_encoder(
    source: Source, kind: type[_Model] = EmbeddingModel, *, win_length: int | None = None, **options: Any
) -> _Model:
    """A model of the class ``kind``, which takes the options, from a checkpoint that was found or untrained weights.

    Raises:
        OptionError: an option is out of range.
        CheckpointError: as for :func:`load_model`.
    """
    checkpoint = _random(source) if source.path is None else read_checkpoint(source.path, win_length)
    with torch.random.fork_rng(devices=[]):  # making an encoder draws weights, which the checkpoint's then replace
        model = kind(checkpoint.config, provenance=checkpoint.provenance, **options)
    model.encoder.load_state_dict(checkpoint.state_dict)
    return model


def _random(source: Source) -> Checkpoint:
    """Untrained weights, the same on every machine and without touching the caller's random state."""
    record = source.record
    assert record is not None  # only a record has no file
    config = EncoderConfig(record.encoder, record.embedding_size)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(RANDOM_SEED)  # the CPU's alone
        encoder = build_encoder(config)
    provenance = {"name": record.name, "description": f"untrained weights, seed {RANDOM_SEED}"}
    return Checkpoint(ModelConfig(config), encoder.state_dict(), provenance)


def get_scene_embeddings(audio: BatchLike, model: AudioModel) -> torch.Tensor:
    """Embed whole clips.

    Args:
        audio: mono float32 samples in [-1, 1] at ``model.sample_rate`` [shape=(n_clips, n_samples)], on the model's
            device; or a list of clips of any lengths, each [shape=(n_samples,)].
        model: from :func:`load_model`.

    Returns:
        float32 [shape=(n_clips, model.scene_embedding_size)].

    Raises:
        InputError: the audio cannot be embedded; the message names the clip, what was got and what is accepted.
    """
    return _embedder(model).scene_embeddings(audio)


def get_timestamp_embeddings(audio: BatchLike, model: AudioModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Embed windows centred every ``hop_ms``.

    Args:
        audio: as for :func:`get_scene_embeddings`.
        model: from :func:`load_model`.

    Returns:
        Embeddings, float32 [shape=(n_clips, n_windows, model.timestamp_embedding_size)], and window centres in
        milliseconds, float32 [shape=(n_clips, n_windows)]; n_windows = floor(n_samples / hop) + 1. For a list of clips,
        two lists of such, one a clip and without the first axis.

    Raises:
        InputError: as for :func:`get_scene_embeddings`.
    """
    return _embedder(model).timestamp_embeddings(audio)


def _embedder(model: AudioModel) -> AudioModel:
    if not (hasattr(model, "scene_embeddings") and hasattr(model, "timestamp_embeddings")):
        raise InputError(f"model must come from hear_byols.load_model, got {type(model).__name__}")
    return model
