"""What leaves a run: the online encoder as a self-describing checkpoint, with its provenance."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
from typing import Any

import torch

import hear_byols
from hear_byols.config import EncoderConfig, FrontendConfig, ModelConfig, NormalizationConfig
from hear_byols.teachers import TeacherRecord
from hear_byols.training.config import PretrainConfig
from hear_byols.training.pool import AudioPool
from hear_byols.training.trainer import Trainer
from hear_byols.weights.checkpoint import save_checkpoint

FEATURE_LICENCE = (
    "ComParE 2016 targets were extracted with openSMILE, whose licence permits private, research and educational use "
    "only, and asks for a licence of audEERING for commercial use of models made with it. The weights contain no "
    "openSMILE code."
)


def describe_data(pool: AudioPool) -> list[dict[str, Any]]:
    """Sources with their hours."""
    return [{"name": name, "hours": round(hours, 3)} for name, hours in pool.source_hours().items()]


def describe_teacher(record: TeacherRecord) -> dict[str, str]:
    """What a checkpoint says of a teacher: where it is published, its licence, what it was trained on."""
    names = ("name", "origin", "licence", "commercial", "data", "reference")
    return {name: getattr(record, name) for name in names}


def describe_run(trainer: Trainer, last: dict[str, float], preset: str = "") -> dict[str, Any]:
    """Settings, length, cost and final losses of a run, JSON-able.

    Args:
        trainer: the run.
        last: line of the log.
        preset: that the settings started from.
    """
    config = trainer.config
    settings = dataclasses.asdict(config)
    return {
        "method": _method(config),
        **({"preset": preset} if preset else {}),
        "steps": trainer.n_steps,
        "of_steps": trainer.total_steps,
        "crops_seen": trainer.n_steps * config.batch_size,
        "settings": {name: list(v) if isinstance(v, tuple) else v for name, v in settings.items()},
        "hours": round(trainer.seconds / 3600, 3),
        "hardware": describe_hardware(trainer.device, trainer.world.size),
        "final": {k: float(f"{v:.5g}") for k, v in last.items() if k != "learning_rate" and math.isfinite(v)},
        "torch": str(torch.__version__),
        "hear_byols": hear_byols.__version__,
    }


def _method(config: PretrainConfig) -> str:
    if not config.hybrid:
        return "BYOL-S"
    return "Hybrid BYOL-S" if config.beta else "Hybrid BYOL-S, supervised loss alone"


def describe_hardware(device: torch.device, n_processes: int = 1) -> str:
    """Name the devices in plain words."""
    if device.type == "cuda":
        return f"{n_processes} x {torch.cuda.get_device_name(device)}"
    threads = torch.get_num_threads() * n_processes
    return f"{threads} {platform.machine()} CPU core{'s' if threads > 1 else ''}"


def export_encoder(
    trainer: Trainer,
    path: str | os.PathLike,
    provenance: dict[str, Any],
) -> None:
    """Write the online encoder as a checkpoint.

    Args:
        trainer: the run.
        path: ends in ``.pth`` or ``.safetensors``.
        provenance: see :func:`describe_run` and :func:`describe_data`.
    """
    encoder = trainer.encoder
    config = ModelConfig(
        encoder=EncoderConfig(trainer.config.encoder, encoder.own_size, trainer.config.layers),
        frontend=FrontendConfig(),
        normalization=NormalizationConfig(trainer.config.normalization, trainer.mean, trainer.std),
    )
    save_checkpoint(path, config, encoder.state_dict(), provenance, half=trainer.config.half)
