"""Openly licensed pretrained models that teach the hybrid, each a HEAR model of its own."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hear_byols.teachers.base import Teacher, over_time
from hear_byols.teachers.mn04 import MN04
from hear_byols.teachers.model import TeacherModel
from hear_byols.teachers.moonshine import Moonshine
from hear_byols.teachers.resemblyzer import Resemblyzer
from hear_byols.teachers.smart_turn import SmartTurn
from hear_byols.teachers.speech_embedding import SpeechEmbedding
from hear_byols.teachers.store import load_weights
from hear_byols.teachers.swift_f0 import SwiftF0
from hear_byols.teachers.yamnet import YAMNet
from hear_byols.weights.records import TeacherRecord
from hear_byols.weights.teachers import find_teacher, list_teachers

__all__ = ["CLASSES", "Teacher", "TeacherModel", "TeacherRecord", "find_teacher", "get_scene_embeddings"]
__all__ += ["get_timestamp_embeddings", "list_teachers", "load_teacher", "load_teacher_model"]

_ARCHITECTURES = (SmartTurn, Moonshine, MN04, Resemblyzer, SwiftF0, YAMNet, SpeechEmbedding)
CLASSES: dict[str, type[Teacher]] = {cls.name: cls for cls in _ARCHITECTURES}


def load_teacher(
    name: str,
    device: torch.device | str | None = None,
    *,
    layers: Sequence[int] | None = None,
    precision: str = "float32",
) -> Teacher:
    """Load a teacher, ready to use, frozen and in evaluation mode.

    Args:
        name: of :func:`list_teachers`.
        device: by default the CPU.
        layers: whose outputs stand side by side in a frame; by default the teacher's own choice.
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"`` arithmetic behind the front end.

    Raises:
        OptionError: no teacher of this name, or no such layer or precision.
        WeightsNotFoundError: it was not added yet; the message names the commands that do.
        CheckpointError: its file is damaged.
    """
    record = find_teacher(name)
    with torch.random.fork_rng(devices=[]):  # making a module draws weights, which the file's then replace
        teacher = CLASSES[name](layers, precision)
    teacher.load_state_dict(load_weights(record))
    # Convolutions are faster with channels last: without that, each one would change the order and back.
    teacher.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return teacher.eval().requires_grad_(False).to(device or "cpu")


def load_teacher_model(name: str, *, precision: str = "float32", **options: Any) -> TeacherModel:
    """Load a teacher with the interface of ``EmbeddingModel``; what ``hear_byols.load_model(name)`` does.

    Arguments and errors are those of :func:`load_teacher`, the options those of :class:`TeacherModel`.
    """
    return TeacherModel(load_teacher(name, precision=precision), find_teacher(name), **options)


@torch.no_grad()
def get_timestamp_embeddings(audio: Tensor, model: Teacher) -> tuple[Tensor, Tensor]:
    """A teacher's own frames.

    Args:
        audio: mono float32 samples in [-1, 1] at 16 kHz, on the model's device [shape=(n_clips, n_samples)].
        model: from :func:`load_teacher`.

    Returns:
        Frames, float32 [shape=(n_clips, n_frames, timestamp_embedding_size)], and their centres in milliseconds,
        float32 [shape=(n_clips, n_frames)].
    """
    frames = model(audio)
    return frames, model.times_ms(frames.shape[1], audio.shape[1]).to(frames.device).expand(len(frames), -1)


@torch.no_grad()
def get_scene_embeddings(audio: Tensor, model: Teacher) -> Tensor:
    """Mean and maximum of a teacher's frames over time; arguments as of :func:`get_timestamp_embeddings`.

    Returns:
        float32 [shape=(n_clips, scene_embedding_size)]: all means, then all maxima.
    """
    return over_time(model(audio))
