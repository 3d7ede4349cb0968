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

from hear_byols.encoders.multilayer import MultilayerEncoder, map_maxima
from hear_byols.encoders.pooling import mean_max
from hear_byols.frontend import LOG_OFFSET, LogMel
from hear_byols.normalization import Moments, halfway, standardize
from hear_byols.training.config import PretrainConfig
from hear_byols.training.heads import component_head, make_head
from hear_byols.training.initial import initial_encoder
from hear_byols.training.lesson_stream import Lessons, LiveLessons
from hear_byols.training.lessons import PARTS
from hear_byols.training.objective import (
    BYOL_PROJECTION,
    Byol,
    embedding_spread,
    self_supervised_loss,
    update_momentum,
)
from hear_byols.training.randomness import seeded
from hear_byols.training.teacher_scale import TeacherScale
from hear_byols.training.trainer import Trainer

if TYPE_CHECKING:
    from lightning.fabric import Fabric

STATISTICS_SHARDS = 8  # whose lessons give the mean and std of log-mels and features
EQUALIZER_BANDS = 6  # whose gains are drawn; those between are interpolated


class StudentOutputs(NamedTuple):
    """What :class:`Student` computes.

    Args:
        embeddings: of the crops [shape=(n, embedding_size)].
        answers: of the heads, to the whole crops [shape=(n, n_features)].
        part_answers: of the heads for stretches, to one stretch of each crop [shape=(n, n_features)].
        predictions: of BYOL's prediction head; None without L_ss [shape=(n, projection_size)].
        targets: projections of the other view by the target network, likewise.
    """

    embeddings: Tensor
    answers: Tensor
    part_answers: Tensor | None
    predictions: Tensor | None
    targets: Tensor | None


class Student(nn.Module):
    """An encoder, a head for each teacher, and what L_ss needs.

    The heads of all teachers lie side by side in one matrix.

    Args:
        encoder: to be trained, with ``columns``.
        n_features: of all teachers together.
        parts: whether there are heads for stretches.
        self_supervised: whether there are projection head, prediction head and target network.
        hidden: width of these heads.
        heads_on: "last": the heads for whole crops see the last layer's embedding; "multi": that of all layers.
    """

    def __init__(
        self,
        encoder: MultilayerEncoder,
        n_features: int,
        parts: bool,
        self_supervised: bool,
        hidden: int,
        heads_on: str = "last",
    ) -> None:
        super().__init__()
        self._heads_on = heads_on
        self.heads = make_head(encoder.size_of(heads_on), n_features)
        self.part_heads = make_head(encoder.own_size, n_features) if parts else None
        self.byol = Byol(encoder, BYOL_PROJECTION, hidden) if self_supervised else None
        if not self_supervised:
            self._encoder = encoder

    @property
    def encoder(self) -> MultilayerEncoder:
        """The online encoder."""
        return self._encoder if self.byol is None else self.byol.online.encoder

    def forward(self, views: Tensor, part: slice | None = None, pairs: bool = False) -> StudentOutputs:
        """Answer the teachers, and on request predict each view from the other.

        Args:
            views: standardized log-mels; with ``pairs`` first views followed by second ones
                [shape=(n, 1, mel, time)].
            part: the stretch that the second kind of heads answers for, in columns.
            pairs: whether the rows are two views of each crop, for L_ss.
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

    Args:
        log_mels: natural logarithm of (mel power + offset) [shape=(n, mel, time)].
        most_db: largest gain, and loss.
        generator: on the device of the log-mels.
    """
    n, n_mels = log_mels.shape[:2]
    gains = (2 * torch.rand(n, 1, EQUALIZER_BANDS, generator=generator, device=generator.device) - 1) * most_db
    curves = F.interpolate(gains, n_mels, mode="linear", align_corners=True)[:, 0, :, None]
    power = (log_mels.exp() - LOG_OFFSET) * 10 ** (curves / 10)
    return (power.clamp_min(0) + LOG_OFFSET).log()


def teacher_losses(answers: Tensor, features: Tensor, sizes: dict[str, int], kind: str = "mse") -> Tensor:
    """L_t of every teacher: mean squared error over its features, or 1 - the cosine between answers and features.

    Args:
        answers: of the heads [shape=(n, sum of sizes)].
        features: standardized, same shape.
        sizes: features of each teacher.
        kind: "mse" or "cosine".

    Returns:
        [shape=(n_teachers,)]; 1 for answers of 0 to features of unit variance.
    """
    answers = answers.float()
    if kind == "mse":
        errors = (answers - features).square()
        return torch.stack([part.mean() for part in errors.split(list(sizes.values()), 1)])
    pairs = zip(answers.split(list(sizes.values()), 1), features.split(list(sizes.values()), 1), strict=True)
    return torch.stack([1 - F.cosine_similarity(answer, feature).mean() for answer, feature in pairs])


class TeacherTrainer(Trainer[Student]):
    """A student of several teachers.

    Args:
        config: the run.
        lessons: augmented crops and what the teachers say of them.
        sizes: features of each teacher, in the lessons' order.
        fabric: launched; decides on device, precision and processes.
        total_steps: length of the run, which the learning-rate schedule follows.
    """

    def __init__(
        self,
        config: PretrainConfig,
        lessons: Lessons | LiveLessons,
        sizes: dict[str, int],
        fabric: Fabric,
        total_steps: int,
    ) -> None:
        self.lessons = lessons
        self._feature_sizes = sizes
        most = config.teacher_components or max(sizes.values())
        self.sizes = {name: min(size, most) for name, size in sizes.items()}
        self.values = ("loss", "loss_self_supervised", "spread", *(f"loss_{name}" for name in sizes))
        super().__init__(config, fabric, total_steps, lessons.digest)
        self.log_mel = LogMel().to(self.device)
        self._weights = torch.tensor(config.weights, device=self.device)
        self._measure()

    def make_network(self) -> Student:
        """The student, of a fresh encoder or one to be taught further."""
        encoder = initial_encoder(self.config.encoder, self.config.init)
        for module in encoder.modules():
            if isinstance(module, nn.Dropout):
                module.p = self.config.dropout
        config = self.config
        n_features, parts, self_supervised = sum(self.sizes.values()), bool(config.part_weight), bool(config.beta)
        return Student(encoder, n_features, parts, self_supervised, config.head_hidden, config.heads_on)

    @property
    def encoder(self) -> MultilayerEncoder:
        """The online encoder."""
        return self.network.encoder

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
        """See :meth:`Trainer.checkpoint_head`."""
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
        """Restore :meth:`extra_state`."""
        mean, std, *bases = state["features"]
        self._scale = TeacherScale(mean, std, tuple(bases)).to(self.device)
