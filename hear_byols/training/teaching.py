"""A run with several teachers (paper, equation 1 with the learnable extractors of its section 4.4).

L = beta L_ss + sum over teachers of alpha_t L_t. Each teacher has its own head on the student's embedding, its own
standardization and weight, so that a small one is not drowned by a large one. Heads of a second kind sit on the
embedding of stretches of the crop: timestamp embeddings are half of the product.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_byols.encoders.multilayer import MultilayerEncoder, map_maxima, mean_max
from hear_byols.frontend import LOG_OFFSET, LogMel
from hear_byols.normalization import Moments, halfway, standardize
from hear_byols.training.config import PretrainConfig
from hear_byols.training.distributed import seeded
from hear_byols.training.heads import TeacherScale, component_head, make_head
from hear_byols.training.lesson_stream import LessonSource
from hear_byols.training.lessons import PARTS
from hear_byols.training.objective import BYOL_PROJECTION, Byol, embedding_spread, self_supervised_loss, update_momentum
from hear_byols.training.trainer import Trainer

if TYPE_CHECKING:
    from lightning.fabric import Fabric

STATISTICS_SHARDS = 8  # whose lessons give the mean and std of log-mels and features
EQUALIZER_BANDS = 6  # whose gains are drawn; those between are interpolated


class StudentOutputs(NamedTuple):
    """What :class:`Student` computes."""

    embeddings: Tensor  # of the crops [shape=(n, embedding_size)]
    answers: Tensor  # of the heads, to the whole crops [shape=(n, n_features)]
    part_answers: Tensor | None  # of the heads for stretches, to one stretch of each crop [shape=(n, n_features)]
    predictions: Tensor | None  # of BYOL's prediction head; None without L_ss [shape=(n, projection_size)]
    targets: Tensor | None  # projections of the other view by the target network, likewise


class Student(nn.Module):
    """An encoder, the teachers' heads side by side in one matrix, and what L_ss needs.

    Args:
        encoder: to be trained, with ``columns``.
        n_features: of all teachers together.
        config: which heads there are, and what those for whole crops see.
    """

    def __init__(self, encoder: MultilayerEncoder, n_features: int, config: PretrainConfig) -> None:
        super().__init__()
        self._heads_on = config.heads_on
        self.heads = make_head(encoder.size_of(config.heads_on), n_features)
        self.part_heads = make_head(encoder.own_size, n_features) if config.part_weight else None
        self.byol = Byol(encoder, BYOL_PROJECTION, config.head_hidden) if config.beta else None
        if self.byol is None:
            self._encoder = encoder

    @property
    def encoder(self) -> MultilayerEncoder:
        """The online encoder."""
        return self._encoder if self.byol is None else self.byol.online.encoder

    def forward(self, views: Tensor, part: slice | None = None, pairs: bool = False) -> StudentOutputs:
        """Answer the teachers, and on request predict each view from the other.

        Args:
            views: standardized log-mels [shape=(n, 1, mel, time)].
            part: the stretch that the second kind of heads answers for, in columns.
            pairs: for L_ss, whether the rows are first views of all crops followed by second ones.
        """
        part_answers = predictions = targets = None
        if part is None and self._heads_on == "last":
            embeddings = seen = self.encoder(views)
        else:
            columns, maps = self.encoder.columns(views)
            embeddings = mean_max(columns)
            seen = torch.cat([embeddings, *map_maxima(maps)], 1) if self._heads_on == "multi" else embeddings
            if part is not None and self.part_heads is not None:
                part_answers = self.part_heads(mean_max(columns[:, part]))
        if pairs and self.byol is not None:
            predictions = self.byol.prediction_head(self.byol.online.projection_head(embeddings))
            with torch.no_grad():
                _, targets = self.byol.target(torch.cat(views.chunk(2)[::-1]))
        return StudentOutputs(embeddings, self.heads(seen), part_answers, predictions, targets)


def equalized(log_mels: Tensor, most_db: float, generator: torch.Generator) -> Tensor:
    """Log-mels as through another microphone: each crop under a smooth random curve (Nam et al. 2022, FilterAugment).

    They are logarithms of (mel power + offset) [shape=(n, mel, time)]; ``most_db`` is the largest gain, and loss.
    """
    n, n_mels = log_mels.shape[:2]
    gains = (2 * torch.rand(n, 1, EQUALIZER_BANDS, generator=generator, device=generator.device) - 1) * most_db
    curves = F.interpolate(gains, n_mels, mode="linear", align_corners=True)[:, 0, :, None]
    power = (log_mels.exp() - LOG_OFFSET) * 10 ** (curves / 10)
    return (power.clamp_min(0) + LOG_OFFSET).log()


def teacher_losses(answers: Tensor, features: Tensor, sizes: dict[str, int], kind: str = "mse") -> Tensor:
    """L_t of every teacher: mean squared error over its features, or 1 - the cosine between answers and features.

    Both are [shape=(n, sum of sizes)], the features standardized; ``kind`` is "mse" or "cosine".

    Returns:
        [shape=(n_teachers,)]; 1 for answers of 0 to features of unit variance.
    """
    answers, widths = answers.float(), list(sizes.values())
    if kind == "mse":
        return torch.stack([part.mean() for part in (answers - features).square().split(widths, 1)])
    pairs = zip(answers.split(widths, 1), features.split(widths, 1), strict=True)
    return torch.stack([1 - F.cosine_similarity(answer, feature).mean() for answer, feature in pairs])


class TeacherTrainer(Trainer[Student]):
    """A student of several teachers; other arguments as of :class:`Trainer`.

    Args:
        lessons: augmented crops and what the teachers say of them.
        sizes: features of each teacher, in the lessons' order.
    """

    def __init__(
        self, config: PretrainConfig, lessons: LessonSource, sizes: dict[str, int], fabric: Fabric, total_steps: int
    ) -> None:
        self.lessons, self._feature_sizes = lessons, sizes
        most = config.teacher_components or max(sizes.values())
        self.sizes = {name: min(size, most) for name, size in sizes.items()}
        self.values = ("loss", "loss_self_supervised", "spread", *(f"loss_{name}" for name in sizes))
        super().__init__(config, fabric, total_steps, lessons.digest)
        self.log_mel = LogMel().to(self.device)
        weights = config.teacher_weights or (1.0,) * len(sizes)
        self._weights = torch.tensor([config.alpha * weight for weight in weights], device=self.device)
        self._measure()

    def make_network(self) -> Student:
        for module in self.encoder.modules():
            if isinstance(module, nn.Dropout):
                module.p = self.config.dropout
        return Student(self.encoder, sum(self.sizes.values()), self.config)

    def _measure(self) -> None:
        """Mean and standard deviation of the log-mels, and the scale of the features."""
        waveforms, features = self.lessons.first(STATISTICS_SHARDS)
        sizes = self._feature_sizes.values()
        scale = TeacherScale.fit(features.float().mean(1), sizes, self.config.teacher_components)
        self._scale = self.fabric.broadcast(scale).to(self.device)  # the axes of another machine may point elsewhere
        self.seed(0, "statistics")
        blocks = [self._log_mels(block.to(self.device)).double() for block in waveforms.split(256)]
        count = sum(block.numel() for block in blocks)
        self.mean = sum(block.sum().item() for block in blocks) / count
        self.std = math.sqrt(sum((block - self.mean).square().sum().item() for block in blocks) / count)

    def _log_mels(self, waveforms: Tensor) -> Tensor:
        """The student's own view: another level, beginning and colour; the features stay [shape=(n, mel, time)]."""
        n, n_samples = waveforms.shape
        config = self.config
        draws = torch.rand(2, n, generator=self._generator, device=self.device)
        first = (draws[0] * (n_samples - config.crop_samples + 1)).long()
        low, high = config.student_db
        gain = 10 ** ((draws[1] * (high - low) + low) / 20) / 32767
        audio = waveforms.unfold(1, config.crop_samples, 1)[torch.arange(n, device=self.device), first]
        log_mels = self.log_mel(audio.float() * gain[:, None])
        return equalized(log_mels, config.equalizer, self._generator) if config.equalizer else log_mels

    def _views(self, waveforms: Tensor) -> Tensor:
        log_mels = self._log_mels(waveforms)
        if self.config.normalization == "dataset":
            return standardize(log_mels, self.mean, self.std)[:, None]
        mean, std = Moments.of(log_mels).mean_std()
        if self.config.normalization == "halfway":
            mean, std = halfway(mean, std, self.mean, self.std)
        return standardize(log_mels, mean, std)[:, None]

    def step(self) -> Tensor:
        """Train on one batch; see :meth:`Trainer.step`. L_ss is NaN in steps without it."""
        self.begin_step()
        batch_size = self.config.batch_size
        batch = self.lessons.batch(self.n_steps, batch_size, self.world.part(batch_size))
        waveforms, raw = (tensor.to(self.device) for tensor in batch)
        pairs = bool(self.config.beta) and self.n_steps % self.config.self_supervised_every == 0
        views = torch.cat([self._views(waveforms) for _ in range(1 + pairs)])
        part, parts = self._draw_part(views.shape[3])
        outputs = self.forward(views, part, pairs)
        answers = self._losses(outputs.answers, raw.float().mean(1), pairs)
        loss = (self._weights * answers).sum()
        if part is not None:
            said = self._losses(outputs.part_answers, raw[:, parts].float().mean(1), pairs)
            loss = loss + self.config.part_weight * (self._weights * said).sum()
        self_supervised = torch.full_like(loss, math.nan)
        if pairs:
            self_supervised = self_supervised_loss(outputs.predictions, outputs.targets)
            loss = loss + self.config.beta * self_supervised
        self.learn(loss)
        if self.network.byol is not None:
            update_momentum(self.network.byol.target, self.network.byol.online, self.config.ema_decay)
        spread = embedding_spread(outputs.embeddings.detach())
        return torch.cat([torch.stack([loss, self_supervised, spread]), answers]).detach()

    def _losses(self, answers: Tensor, raw: Tensor, pairs: bool) -> Tensor:
        features = self._scale(raw)
        features = torch.cat([features, features]) if pairs else features
        return teacher_losses(answers, features, self.sizes, self.config.teacher_loss)

    def _draw_part(self, n_frames: int) -> tuple[slice | None, slice | None]:
        """A stretch of the crop, in columns and in the teachers' parts."""
        if not self.config.part_weight:
            return None, None
        n_columns = n_frames // self.encoder.column_frames
        n_parts = math.gcd(n_columns, PARTS)
        generator = self._generator
        if self.device.type != "cpu":  # nothing waits for the device
            generator = seeded(torch.Generator(), self.config.seed, self.n_steps, "part")
        i = int(torch.randint(n_parts, (1,), generator=generator))
        columns, parts = n_columns // n_parts, PARTS // n_parts
        return slice(i * columns, (i + 1) * columns), slice(i * parts, (i + 1) * parts)

    @torch.no_grad()
    def checkpoint_head(self) -> nn.Linear | None:
        if self.config.layers != "heads":
            return None
        waveforms, _ = self.lessons.first(STATISTICS_SHARDS)
        self.seed(self.n_steps, "head")
        self.network.eval()
        with self.fabric.autocast():
            batches = waveforms.split(self.config.batch_size)
            parts = [self.encoder(self._views(batch.to(self.device))) for batch in batches]
        self.network.train()
        return component_head(self.network.heads, torch.cat(parts), self.config.head_components)

    def extra_state(self) -> dict[str, Any]:
        """The scale of the features."""
        return {"features": [self._scale.mean, self._scale.std, *self._scale.bases]}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        mean, std, *bases = state["features"]
        self._scale = TeacherScale(mean, std, tuple(bases)).to(self.device)
