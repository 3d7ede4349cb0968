"""Small things to pre-train on and with: tones and noise, an encoder of one layer, features that can be learnt."""

from pathlib import Path
from unittest import mock

import numpy as np
import soundfile
import torch
from torch import nn

from hear_byols.frontend import LogMel
from hear_byols.training import trainer
from hear_byols.training.config import PretrainConfig
from hear_byols.training.distributed import World
from hear_byols.training.pool import AudioPool, cut_crops
from hear_byols.training.pretrain import CropSampler, Pretrainer, TeacherFeatures
from hear_byols.training.run import Hardware, make_fabric
from hear_byols.training.targets import feature_positions
from hear_byols.training.trainer import Trainer

N_FRAMES, N_SAMPLES = 32, 31 * 160  # of a crop
TEACHER_SIZES = {"mn04": 8, "swift_f0": 2}  # of small teachers under the names of real ones
SMALL = {"crop_frames": N_FRAMES, "batch_size": 8, "head_hidden": 32, "log_steps": 1}
QUIET = ["--device=cpu", "--threads=1", "--quiet"]
# A module with the HEAR API whose embeddings are log energies of eight bands: targets without openSMILE.
HEAR_MODULE = """
import torch
from hear_byols.frontend import LogMel

class Bands(torch.nn.Module):
    sample_rate, scene_embedding_size = 16000, 8

def load_model(path=""):
    return Bands()

def get_scene_embeddings(audio, model):
    return LogMel()(audio).mean(2).unflatten(1, (8, 8)).mean(2)
"""


class TinyEncoder(nn.Module):
    """One convolution, batch norm, mean over positions."""

    embedding_size = 16

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 16, 5, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, x):
        return self.net(x).mean((2, 3))


def tones_and_noise(n_clips: int = 24) -> list[np.ndarray]:
    """Clips of many pitches and levels, a third of them noise, int16."""
    rng = np.random.default_rng(0)
    time = np.arange(16000)
    clips = [rng.uniform(0.1, 0.9) * np.sin(time * rng.uniform(0.02, 1.5)) for _ in range(n_clips - n_clips // 3)]
    clips += [rng.normal(0, rng.uniform(0.01, 0.2), 16000) for _ in range(n_clips // 3)]
    return [np.round(clip.clip(-1, 1) * 32767).astype(np.int16) for clip in clips]


def write_clips(folder: Path, n_clips: int = 12) -> Path:
    """The clips as files."""
    folder.mkdir(parents=True)
    for i, clip in enumerate(tones_and_noise(n_clips)):
        soundfile.write(folder / f"{i:02d}.wav", clip, 16000)
    return folder


def command(audio: Path, output: Path, *options: str) -> list[str]:
    """Arguments of ``hear-byols`` for a run with the settings of SMALL."""
    small = ["--set", *(f"{name}={value}" for name, value in SMALL.items())]
    return ["pretrain", "--data", str(audio), "--output", str(output), *small, *QUIET, *options]


def band_targets(pool: AudioPool) -> TeacherFeatures:
    """Features of crops: log energies of eight bands."""
    positions = feature_positions(pool, 64, N_SAMPLES, seed=0)
    log_mels = LogMel()(cut_crops(torch.from_numpy(pool.audio), positions, N_SAMPLES))
    features = log_mels.mean(2).unflatten(1, (8, 8)).mean(2).numpy()
    return TeacherFeatures(positions, features, torch.device("cpu"))


def make_trainer(
    pool: AudioPool, hybrid: bool = True, total_steps: int = 40, encoder: nn.Module | None = None, **options
) -> Pretrainer:
    """A run of the tiny encoder on one process, or on those that share a process group."""
    config = PretrainConfig(**{**SMALL, "targets": "bands" if hybrid else "none", **options})
    fabric = make_fabric(config, Hardware("cpu"))
    world = World(fabric.global_rank, fabric.world_size)
    targets = band_targets(pool) if hybrid else None
    crops = CropSampler(pool, N_SAMPLES, fabric.device, targets, world)
    with torch.random.fork_rng(), mock.patch.object(trainer, "initial_encoder") as initial_encoder:
        torch.manual_seed(0)
        initial_encoder.return_value = encoder or TinyEncoder()
        return Pretrainer(config, crops, fabric, config.steps or total_steps)


def steps(trainer: Trainer, n: int) -> torch.Tensor:
    """The values of so many steps."""
    return torch.stack([trainer.step() for _ in range(n)])


def band_teacher(n_bands: int):
    """A teacher without weights, whose frames are log energies of bands."""
    return lambda audio: LogMel()(audio).unflatten(1, (n_bands, -1)).mean(2).transpose(1, 2)
