"""A whole pre-training run, from audio files to a checkpoint: what ``hear-byols pretrain`` does."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock, Timeout

from hear_byols._util.files import remove_parts, writing
from hear_byols._util.imports import require
from hear_byols.errors import OptionError
from hear_byols.training.config import PretrainConfig
from hear_byols.training.data import load_pool
from hear_byols.training.distributed import World, process_group
from hear_byols.training.export import describe, export_encoder
from hear_byols.training.lesson_stream import GROUP, Lessons, LiveLessons
from hear_byols.training.lessons import SHARD, SHIFT, LessonFolder, LessonPlan, teacher_sizes
from hear_byols.training.loop import Row, train
from hear_byols.training.pool import AudioPool
from hear_byols.training.presets import Run, write_settings
from hear_byols.training.pretrain import CropSampler, Pretrainer, TeacherFeatures
from hear_byols.training.targets import extract_features
from hear_byols.training.teaching import TeacherTrainer
from hear_byols.training.trainer import Trainer

if TYPE_CHECKING:
    from lightning.fabric import Fabric

logger = logging.getLogger(__name__)

FABRIC_PRECISIONS: dict[str, Any] = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


@dataclass(frozen=True)
class Hardware:
    """Where a run takes place; Lightning Fabric's terms."""

    device: str = "auto"  # or "cpu", "cuda"
    devices: int = 1  # number of processes on this machine, one a GPU
    nodes: int = 1  # number of machines
    workers: int = 1  # processes that extract features, threads that decode


def pretrain(
    runs: Sequence[Run],
    data: Iterable[str | os.PathLike[str]],
    cache: str | os.PathLike[str] | None = None,
    hardware: Hardware | None = None,
    max_minutes: float = math.inf,
    tensorboard: bool = True,
    progress: bool = False,
) -> Path:
    """Train runs that follow one another, or continue them where they stopped.

    Args:
        runs: at least one, as of :func:`hear_byols.training.presets.make_runs`; each one's folder is for
            ``encoder.pth``, ``run.toml``, ``log.csv``, ``curves.png``, ``states/`` and ``tensorboard/``.
        data: see :func:`hear_byols.training.data.load_pool`.
        cache: folder for decoded audio and features, which runs may share; by default ``cache`` in the last folder.
        hardware: where to train.
        max_minutes: stop after this time; the same call continues.
        tensorboard: also write TensorBoard events.
        progress: show bars.

    Returns:
        The checkpoint of the last run that began, which ``hear_byols.load_model`` reads.

    Raises:
        InputError: no usable audio, or features of other crops in the cache.
        OptionError: a setting that cannot be met, or another process trains in the folder.
        CheckpointError: the folder holds another run.
        TrainingError: the run failed; its last good state is kept.
        MissingDependencyError: lightning, tensorboard, matplotlib or the extractor is not installed.
    """
    hardware, cache = hardware or Hardware(), Path(cache or runs[-1].folder / "cache")
    data, end = list(data), time.monotonic() + 60 * max_minutes
    for run in runs:
        left = max(0.0, end - time.monotonic()) / 60
        if not _pretrain(run, data, cache, hardware, left, tensorboard, progress):
            break
    return run.folder / "encoder.pth"


def _pretrain(
    run: Run, data: list, cache: Path, hardware: Hardware, max_minutes: float, tensorboard: bool, progress: bool
) -> bool:
    """Train one run; returns whether it is at its end."""
    output = run.folder
    with _alone(output), process_group():
        pool = load_pool(data, cache, workers=hardware.workers)

        def export(trainer: Trainer, row: Row) -> None:
            write_settings(run.config, output / "run.toml")
            about = describe(trainer, row, pool, output.resolve().name, run.preset)
            export_encoder(trainer, output / "encoder.pth", about)

        def sitting() -> bool:  # a frame of its own, which is cleared with all it holds before the processes part
            with ExitStack() as closing:
                trainer = _trainer(run.config, pool, cache, hardware, progress, closing)
                train(trainer, output, export, max_minutes, tensorboard, progress)
                return trainer.n_steps >= trainer.total_steps

        return sitting()


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Keep other runs out of the folder; of a run on several processes, the first one does.

    Raises:
        OptionError: another process trains in it.
    """
    if os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) != "0":  # as launchers such as torchrun set it
        yield
        return
    lock = FileLock(output / ".lock")
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise OptionError(f"another process trains in {output}; wait for it, or name another folder") from error
    try:
        for folder in (output, output / "states"):  # not the cache: other processes of this run may be writing there
            remove_parts(folder)
        yield
    finally:
        lock.release()


def _trainer(
    config: PretrainConfig, pool: AudioPool, cache: Path, hardware: Hardware, progress: bool, closing: ExitStack
) -> Trainer:
    """Join the processes of a run, and make it ready for its first step.

    The teachers of a run go on extracting, on request in processes of their own, until ``closing``.
    """
    features = None
    if config.hybrid and not config.teachers:
        folder = cache / f"{config.targets.replace('/', '_').replace(':', '_')}-{config.crop_samples}-{config.seed}"
        arguments = config.feature_crops, config.crop_samples, config.seed
        workers = hardware.workers if hardware.workers > 1 else 0
        features = extract_features(pool, folder, config.targets, *arguments, workers, progress)
    fabric = make_fabric(config, hardware)
    world = World(fabric.global_rank, fabric.world_size)
    world.part(config.batch_size)
    if not config.teachers:
        targets = TeacherFeatures(*features, fabric.device) if features else None
        crops = CropSampler(pool, config.crop_samples, fabric.device, targets, world)
        return Pretrainer(config, crops, fabric, config.total_steps(int(pool.offsets[-1])))
    plan = LessonPlan(config.teachers, config.teacher_precision, config.crop_samples + SHIFT, config.seed)
    if config.feature_crops:
        folder = LessonFolder(cache / f"lessons-{plan.digest[:12]}", plan, pool)
        workers = hardware.workers if world.rank == 0 else 0
        n_shards = -(-config.feature_crops // SHARD)
        if config.batch_size > (most := SHARD * min(n_shards, GROUP)):
            fault = f"batch_size {config.batch_size} needs more than the {most} lessons that are shuffled together"
            raise OptionError(f"{fault}; take more feature_crops, or a smaller batch_size")
        lessons = Lessons(folder, n_shards, config.replays, workers=workers, device=fabric.device.type)
        closing.callback(lessons.close)
    else:
        lessons = LiveLessons(plan, pool, fabric.device, config.replays)
    n_samples = lessons.n_lessons * config.crop_samples
    return TeacherTrainer(config, lessons, teacher_sizes(config.teachers), fabric, config.total_steps(n_samples))


def make_fabric(config: PretrainConfig, hardware: Hardware) -> Fabric:
    """Set up devices and processes; where a launcher such as torchrun started the processes, join them.

    Raises:
        MissingDependencyError: lightning is not installed.
        OptionError: no such devices.
    """
    require("lightning", "pre-training", "train")
    from lightning.fabric import Fabric
    from lightning.fabric.strategies.ddp import DDPStrategy

    for part in ("fabric", "pytorch"):  # which tell the precision, twice
        logging.getLogger(f"lightning.{part}").setLevel(logging.WARNING)
    devices, nodes = hardware.devices, hardware.nodes
    if "TORCHELASTIC_RUN_ID" in os.environ:  # the launcher's
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    # Batch norm is synchronized, so its buffers are equal without being sent.
    strategy = DDPStrategy(broadcast_buffers=False) if devices * nodes > 1 else "auto"
    try:
        fabric = Fabric(
            accelerator=hardware.device,
            strategy=strategy,
            devices=devices,
            num_nodes=nodes,
            precision=FABRIC_PRECISIONS[config.precision],
        )
        fabric.launch()
    except Exception as error:  # lightning raises many kinds
        place = f"{nodes} x {devices} {hardware.device}"
        raise OptionError(f"cannot train on {place} in {config.precision}: {error}") from error
    if fabric.device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    return fabric
