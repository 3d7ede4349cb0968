"""What leaves a run: the online encoder as a self-describing checkpoint, with its provenance."""

import dataclasses
import math
import os
import platform
from typing import Any

import torch

import hear_byols
from hear_byols.config import EncoderConfig, FrontendConfig, ModelConfig, NormalizationConfig
from hear_byols.teachers import find_teacher
from hear_byols.training.config import OPENSMILE
from hear_byols.training.loop import Row
from hear_byols.training.pool import AudioPool
from hear_byols.training.trainer import Trainer
from hear_byols.weights.checkpoint import save_checkpoint

FEATURE_LICENCE = (
    "ComParE 2016 targets were extracted with openSMILE, whose licence permits private, research and educational use "
    "only, and asks for a licence of audEERING for commercial use of models made with it. The weights contain no "
    "openSMILE code."
)


def describe(trainer: Trainer, last: Row, pool: AudioPool, name: str, preset: str = "") -> dict[str, Any]:
    """What the checkpoint of a run says of itself, JSON-able: sources with their hours, teachers, and its training.

    ``last`` is the last line of the log, ``name`` the model's, ``preset`` what the settings started from.
    """
    config = trainer.config
    teachers = [find_teacher(teacher) for teacher in config.teachers if teacher != OPENSMILE]
    said = ("name", "origin", "licence", "commercial", "data", "reference")
    method = "Hybrid BYOL-S" if config.hybrid else "BYOL-S"
    init = config.init if "://" in config.init else os.path.basename(config.init)  # without a machine's folders
    settings = {**dataclasses.asdict(config), "init": init}
    training = {
        "method": method if config.beta or not config.hybrid else f"{method}, supervised loss alone",
        **({"preset": preset} if preset else {}),
        "steps": trainer.n_steps,
        "of_steps": trainer.total_steps,
        "crops_seen": trainer.n_steps * config.batch_size,
        "settings": {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()},
        "hours": round(trainer.seconds / 3600, 3),
        "hardware": _hardware(trainer.device, trainer.world.size),
        "final": {k: float(f"{v:.5g}") for k, v in last.items() if k != "learning_rate" and math.isfinite(v)},
        "torch": str(torch.__version__),
        "hear_byols": hear_byols.__version__,
    }
    return {
        "name": name,
        "description": "",
        "licence": "",
        **({"notice": FEATURE_LICENCE} if OPENSMILE in config.targets.split("+") else {}),
        "data": [{"name": source, "hours": round(hours, 3)} for source, hours in pool.source_hours().items()],
        **({"teachers": [{key: getattr(record, key) for key in said} for record in teachers]} if teachers else {}),
        "training": training,
    }


def _hardware(device: torch.device, n_processes: int) -> str:
    if device.type == "cuda":
        return f"{n_processes} x {torch.cuda.get_device_name(device)}"
    threads = torch.get_num_threads() * n_processes
    return f"{threads} {platform.machine()} CPU core{'s' if threads > 1 else ''}"


def export_encoder(trainer: Trainer, path: str | os.PathLike, provenance: dict[str, Any]) -> None:
    """Write the online encoder as a checkpoint, .pth or .safetensors, with what :func:`describe` says."""
    config, encoder, head = trainer.config, trainer.encoder, trainer.checkpoint_head()
    weights, n_components = encoder.state_dict(), 0
    if head is not None:
        weights |= {f"head.{name}": value for name, value in head.state_dict().items()}
        n_components = head.out_features
    model = ModelConfig(
        encoder=EncoderConfig(config.encoder, encoder.own_size, config.layers, n_components),
        frontend=FrontendConfig(),
        normalization=NormalizationConfig(config.normalization, trainer.mean, trainer.std),
    )
    save_checkpoint(path, model, weights, provenance, half=config.half)
