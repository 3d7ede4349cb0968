"""What leaves a run: the online encoder as a self-describing checkpoint, with its provenance."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
import platform
from pathlib import Path
from typing import Any

import torch

import hear_byols
from hear_byols.config import EncoderConfig, FrontendConfig, ModelConfig, NormalizationConfig
from hear_byols.errors import InputError
from hear_byols.training.data import AudioPool
from hear_byols.training.trainer import Trainer
from hear_byols.weights.checkpoint import save_checkpoint

FEATURE_LICENCE = (
    "ComParE 2016 targets were extracted with openSMILE, whose licence permits private, research and educational use "
    "only, and asks for a licence of audEERING for commercial use of models made with it. The weights contain no "
    "openSMILE code."
)


def read_manifest(path: str | os.PathLike) -> dict[str, dict[str, str]]:
    """Read licences and descriptions of the sources.

    Args:
        path: CSV file with the columns ``shard``, ``licence`` and ``content``.

    Returns:
        For each shard's name without its suffix, licence and content.

    Raises:
        InputError: a column is missing.
    """
    with open(path, newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    try:
        return {Path(r["shard"]).stem: {"licence": r["licence"], "content": r["content"]} for r in rows}
    except KeyError as error:
        raise InputError(f"{path} needs the columns shard, licence and content; {error} is missing") from error


def describe_data(pool: AudioPool, manifest: dict[str, dict[str, str]] | None = None) -> list[dict[str, Any]]:
    """Sources with their hours, and licence and content where a manifest has them."""
    manifest = manifest or {}
    return [
        {"name": name, "hours": round(hours, 3), **manifest.get(name, {})}
        for name, hours in pool.source_hours().items()
    ]


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
        "method": "Hybrid BYOL-S" if config.hybrid else "BYOL-S",
        **({"preset": preset} if preset else {}),
        "steps": trainer.n_steps,
        "of_steps": trainer.total_steps,
        "crops_seen": trainer.n_steps * config.batch_size,
        "settings": {name: list(v) if isinstance(v, tuple) else v for name, v in settings.items()},
        "hours": round(trainer.seconds / 3600, 3),
        "hardware": describe_hardware(trainer.device, trainer.team.size),
        "final": {k: float(f"{v:.5g}") for k, v in last.items() if k != "learning_rate" and math.isfinite(v)},
        "torch": str(torch.__version__),
        "hear_byols": hear_byols.__version__,
    }


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
