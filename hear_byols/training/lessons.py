"""What teachers say about augmented crops, extracted once and kept on disk (paper, section 4.4: learnable teachers).

A *lesson* is a crop as the teachers heard it, and their features of it. Lessons lie in shards; each is a function of
the pool, the seed and its number alone, so that processes can share the work, and a killed run goes on where it was.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hear_byols._util.files import CONTINUES, output_path
from hear_byols.errors import InputError
from hear_byols.opensmile import N_FEATURES
from hear_byols.teachers import load_teacher
from hear_byols.training.config import OPENSMILE
from hear_byols.training.distributed import seeded
from hear_byols.training.pool import AudioPool, cut_crops, draw_within
from hear_byols.training.targets import FeatureScaler, OpenSmileExtractor, begin_or_continue
from hear_byols.training.waveforms import WaveformAugmentation
from hear_byols.weights.digest import content_digest

SHARD = 512  # lessons of a shard
SHIFT = 800  # samples that teachers hear beyond the student's crop, which begins anywhere in them: 50 ms
PARTS = 4  # stretches of a crop, each with the teachers' mean over it
_BATCH = 64  # crops that a CPU augments together, few enough to stay near; a GPU takes a shard
_FIT_CROPS = 256  # behind the scale of openSMILE's features


@dataclass(frozen=True)
class LessonPlan:
    """What fixes every lesson."""

    teachers: tuple[str, ...]  # names, of hear_byols.teachers or "opensmile"
    precision: str = "float32"  # of the teachers' arithmetic
    n_samples: int = 16000  # length of a crop
    seed: int = 42  # of all draws
    augmentation: WaveformAugmentation = field(default_factory=WaveformAugmentation)  # before anybody hears a crop
    balance: float = 0.5  # a source of h hours counts h ** balance; 1: every second alike, 0: every source

    def waveforms(self, pool: AudioPool, shard: int, audio: Tensor | None = None) -> Iterator[Tensor]:
        """The crops of a shard by its number, in batches: int16 [shape=(n, n_samples)].

        They are made where ``audio`` is, the pool's samples; a GPU draws other crops than a CPU.
        """
        audio = torch.from_numpy(pool.audio) if audio is None else audio
        generator = changes = seeded(torch.Generator(), self.seed, shard, "lessons")
        size = _BATCH
        if audio.device.type != "cpu":
            changes = seeded(torch.Generator(audio.device), self.seed, shard, "augmentation")
            size = SHARD
        n_source = self.augmentation.n_source_samples(self.n_samples)
        for _ in range(SHARD // size):
            positions = [draw_balanced(pool, size, n_source, self.balance, generator) for _ in range(2)]
            crops, others = (cut_crops(audio, drawn.to(audio.device), n_source) for drawn in positions)
            sounds = self.augmentation(crops, others, self.n_samples, changes)
            yield (sounds * 32767).round().to(torch.int16)

    @property
    def digest(self) -> str:
        """Tells plans apart."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()


def draw_balanced(pool: AudioPool, n: int, n_samples: int, balance: float, generator: torch.Generator) -> Tensor:
    """Draw positions of crops, as ``draw_positions``, but sources weighted by a power of their hours."""
    lengths = np.diff(pool.offsets).astype(np.float64)
    totals = np.bincount(pool.sources, weights=lengths, minlength=len(pool.source_names))
    weights = lengths * np.power(np.maximum(totals, 1), balance - 1)[pool.sources]
    edges = torch.from_numpy(np.cumsum(weights))
    moments = torch.rand(n, generator=generator, dtype=torch.float64) * edges[-1]
    clips = torch.searchsorted(edges, moments, right=True).clamp_max(len(lengths) - 1)
    return draw_within(torch.from_numpy(pool.offsets), clips, n_samples, generator)


class Teachers:
    """A plan's teachers side by side, on a device; the pool's first lessons give openSMILE's features their scale."""

    def __init__(self, plan: LessonPlan, pool: AudioPool, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.models: list[Callable[[Tensor], Tensor]] = [
            _OpenSmile(plan, pool) if name == OPENSMILE else load_teacher(name, self.device, precision=plan.precision)
            for name in plan.teachers
        ]

    @torch.no_grad()
    def __call__(self, waveforms: Tensor) -> Tensor:
        """Means of the teachers' frames over each part of a crop: int16 (n, n_samples) -> float16 (n, PARTS, sizes)."""
        audio = waveforms.to(self.device).float() / 32767
        frames = [model(audio).transpose(1, 2) for model in self.models]
        return torch.cat([F.adaptive_avg_pool1d(x, PARTS) for x in frames], 1).transpose(1, 2).half()


class _OpenSmile:
    """openSMILE's functionals of a crop as its only frame, standardized by :class:`FeatureScaler`."""

    def __init__(self, plan: LessonPlan, pool: AudioPool) -> None:
        self._extractor = OpenSmileExtractor()
        first = torch.cat(list(plan.waveforms(pool, 0)))[:_FIT_CROPS]
        self._standardizer = FeatureScaler.fit(self._extractor(first.float().numpy() / 32767))

    def __call__(self, audio: Tensor) -> Tensor:
        features = self._standardizer(torch.from_numpy(self._extractor(audio.cpu().numpy())))
        return features[:, None].to(audio.device)


def teacher_sizes(names: tuple[str, ...]) -> dict[str, int]:
    """Features of each teacher."""
    return {n: N_FEATURES if n == OPENSMILE else int(load_teacher(n).timestamp_embedding_size) for n in names}


class LessonFolder:
    """Shards of lessons on disk, in a folder that is made if missing.

    Raises:
        InputError: the folder holds lessons of another plan or pool, or its description is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str], plan: LessonPlan, pool: AudioPool) -> None:
        self.folder, self.plan, self.pool = Path(folder), plan, pool
        self.folder.mkdir(parents=True, exist_ok=True)
        recipe = {**dataclasses.asdict(plan), "pool": pool.digest, "shard": SHARD, "parts": PARTS}
        with FileLock(self.folder / "lock"):
            begin_or_continue(self.folder, recipe)
        # Tells whether two folders hold the same lessons.
        self.digest = hashlib.sha256((self.folder / "recipe.json").read_bytes()).hexdigest()

    def path(self, shard: int) -> Path:
        """File of a shard."""
        return self.folder / f"shard-{shard:06d}.safetensors"

    def make(self, shard: int, teachers: Teachers) -> None:
        """Extract a shard, unless it is there."""
        if self.path(shard).exists():
            return
        batches = [(batch, teachers(batch).cpu()) for batch in self.plan.waveforms(self.pool, shard)]
        waveforms, features = map(torch.cat, zip(*batches, strict=True))
        tensors = {"waveforms": waveforms, "features": features}
        with output_path(self.path(shard), CONTINUES) as part:
            save_file(tensors, part, metadata={"digest": content_digest(tensors)})

    def read(self, shard: int) -> tuple[Tensor, Tensor]:
        """Waveforms, int16 [shape=(SHARD, n_samples)], and features, float16 [shape=(SHARD, PARTS, size)].

        Raises:
            InputError: the shard is damaged.
        """
        try:
            with safe_open(self.path(shard), "pt") as file:
                digest = (file.metadata() or {}).get("digest")  # of shards made since 1.1
                tensors = {name: file.get_tensor(name) for name in ("waveforms", "features")}
            if digest not in (None, content_digest(tensors)):
                raise OSError("its content has changed since it was written")
        except (SafetensorError, OSError) as error:
            raise InputError(f"{self.path(shard)} is damaged ({error}); remove it to have it made again") from error
        return tensors["waveforms"], tensors["features"]
