"""Settings of a pre-training run (paper, sections 2, 2.2 and 2.3). No torch here: the command line reads this."""

import math
from dataclasses import dataclass
from itertools import pairwise

from hear_byols.config import INVARIANT_MODES, LAYERS, PRECISIONS
from hear_byols.errors import OptionError
from hear_byols.weights.teachers import list_teachers

ENCODERS = ("cnn", "resnetish34", "clstm", "cvt")
OPENSMILE = "opensmile"
SAMPLE_RATE = 16_000
HOP_SAMPLES = 160
MAX_CROP_SAMPLES = 160_000  # 10 s
CHOICES = {
    "encoder": ENCODERS,
    "schedule": ("constant", "cosine"),
    "precision": PRECISIONS,
    "teacher_precision": PRECISIONS,
    "normalization": INVARIANT_MODES,
    "layers": LAYERS,
    "heads_on": ("last", "multi"),
    "teacher_loss": ("mse", "cosine"),
}
# Settings that may differ between the sittings of one run: none of them changes what is computed.
FREE_ON_RESUME = frozenset({"compile", "save_minutes"})


@dataclass(frozen=True)
class PretrainConfig:
    """One run; the defaults are the paper's where it gives them.

    Args:
        encoder: cnn, resnetish34, clstm or cvt
        init: name or file of a model whose encoder is trained further; empty: a fresh one
        targets: what supervises the hybrid: none, opensmile, MODULE[:PATH] of a HEAR module, or several teachers, A+B
        alpha: weight of the supervised loss
        beta: weight of the self-supervised loss
        teacher_weights: of each teacher's loss, in the order of targets; empty: 1 each
        teacher_loss: of the answers to the teachers' standardized features: mse, or cosine (1 - their cosine)
        teacher_components: principal components of each teacher's features for the heads to learn, the finer ones with
            more weight than their variance gives them; 0: the features themselves
        heads_on: what the teachers' heads see: last, the paper's embedding, or multi, all layers
        part_weight: of what the teachers say of a stretch of the crop, beside what they say of all of it
        self_supervised_every: steps with teachers from one with the self-supervised loss to the next
        feature_crops: crops that have features (hybrid); 0: with teachers, made in the step, for a GPU
        replays: times that crops heard before come again between new ones, with teachers
        crop_frames: spectrogram frames of a crop; 96 are 0.95 s
        batch_size: crops of a step, over all devices; each gives two views
        epochs: passes over the data, of as many crops as fit end to end into its hours
        steps: length of the run instead of epochs
        learning_rate: of Adam, at its highest
        rate_fan_in: inputs up to which a layer of the encoder learns at this rate, wider ones slower; 0: any
        schedule: constant or cosine (falls to 0 at the end)
        warmup: share of the run in which the rate rises linearly
        restarts: steps at which the schedule begins anew, for a run that goes on after its end
        weight_decay: of AdamW
        clip_norm: largest norm of the gradients; 0: any
        dropout: in the encoder
        ema_decay: of the target network
        head_hidden: width of the heads' hidden layers
        mixup_ratio: largest share of background in a view
        silence: share of views with digital silence around a random stretch
        mel_scale: smallest and largest height of the random resize crop, relative to the crop
        time_scale: smallest and largest width of the random resize crop, relative to the crop
        time_canvas: width of its virtual canvas, relative to the crop
        fader: largest gain of BYOL-A v2's linear fader in standard deviations; 0: off, 1 in BYOL-A v2
        equalizer: largest gain and loss, in dB, of the random curve over the bands of what the student hears (teachers)
        student_db: lowest and highest gain between what the teachers hear and what the student hears
        teacher_precision: arithmetic of the teachers, as precision
        normalization: of the encoder's input with teachers, and in the checkpoint: dataset, clip or halfway
        layers: in the checkpoint: last, multi or, with teachers, heads
        head_components: values of layers heads: principal components of what the heads say, or fewer if it is less
        half: weights in the checkpoint as float16
        precision: float32, bfloat16 or float16
        seed: of initialization and all draws
        compile: compile both networks (slow start, faster steps)
        log_steps: steps between two lines of the log, whose values are means over them
        save_minutes: time between two saved states

    Raises:
        OptionError: a value out of range.
    """

    encoder: str = "cvt"
    init: str = ""
    targets: str = "none"
    alpha: float = 1.0
    beta: float = 1.0
    teacher_weights: tuple[float, ...] = ()
    teacher_loss: str = "mse"
    teacher_components: int = 0
    heads_on: str = "last"
    part_weight: float = 0.0
    self_supervised_every: int = 1
    feature_crops: int = 20_000
    replays: int = 3
    crop_frames: int = 96
    batch_size: int = 256
    epochs: float = 100.0
    steps: int = 0
    learning_rate: float = 3e-4
    rate_fan_in: int = 0
    schedule: str = "constant"
    warmup: float = 0.0
    restarts: tuple[int, ...] = ()
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    dropout: float = 0.3
    ema_decay: float = 0.99
    head_hidden: int = 4096
    mixup_ratio: float = 0.4
    silence: float = 0.0
    mel_scale: tuple[float, float] = (0.6, 1.5)
    time_scale: tuple[float, float] = (0.6, 1.5)
    time_canvas: float = 1.5
    fader: float = 0.0
    equalizer: float = 0.0
    student_db: tuple[float, float] = (-24.0, 6.0)
    teacher_precision: str = "float32"
    normalization: str = "dataset"
    layers: str = "last"
    head_components: int = 512
    half: bool = False
    precision: str = "float32"
    seed: int = 42
    compile: bool = False
    log_steps: int = 20
    save_minutes: float = 5.0

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise OptionError(f"{name} must be one of {', '.join(choices)}; got {getattr(self, name)!r}")
        self._check_numbers()
        for name in ("mel_scale", "time_scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise OptionError(f"{name} must be two positive numbers, the first not larger; got {low!r} {high!r}")
        if self.student_db[0] > self.student_db[1]:
            raise OptionError(f"student_db must be two levels, the first not higher; got {self.student_db!r}")
        if self.hybrid and not (self.alpha or self.beta):
            raise OptionError("alpha and beta cannot both be 0")
        self._check_teachers()

    def _check_numbers(self) -> None:
        most = 1 + MAX_CROP_SAMPLES // HOP_SAMPLES
        if not 2 <= self.crop_frames <= most:
            raise OptionError(f"crop_frames must lie between 2 and {most}, got {self.crop_frames!r}")
        smallest = {"batch_size": 2, "feature_crops": 0 if self.teachers else 1}
        smallest |= dict.fromkeys(("head_hidden", "log_steps", "self_supervised_every", "head_components"), 1)
        smallest |= dict.fromkeys(("replays", "teacher_components", "steps", "rate_fan_in", "seed"), 0)
        for name, least in smallest.items():
            if getattr(self, name) < least:
                raise OptionError(f"{name} must be at least {least}, got {getattr(self, name)!r}")
        for name in ("warmup", "ema_decay", "mixup_ratio", "silence", "dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"{name} must lie between 0 and 1, got {getattr(self, name)!r}")
        names = ("alpha", "beta", "part_weight", "learning_rate", "weight_decay", "clip_norm")
        for name in (*names, "epochs", "fader", "equalizer", "save_minutes"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise OptionError(f"{name} must be finite and not negative, got {getattr(self, name)!r}")
        if any(not earlier < later for earlier, later in pairwise((0, *self.restarts))):
            raise OptionError(f"restarts must be rising numbers of steps, got {self.restarts!r}")
        if not (math.isfinite(self.time_canvas) and self.time_canvas >= 1):
            raise OptionError(f"time_canvas must be at least 1, got {self.time_canvas!r}")

    @property
    def hybrid(self) -> bool:
        """Whether features supervise the projection head."""
        return self.targets != "none"

    @property
    def teachers(self) -> tuple[str, ...]:
        """The teachers, openSMILE as one of several among them, if it is teachers that supervise; else none."""
        names = tuple(self.targets.split("+"))
        return names if names != (OPENSMILE,) and set(names) <= {*list_teachers(), OPENSMILE} else ()

    def _check_teachers(self) -> None:
        idle = [name for name in ("part_weight", "teacher_components", "equalizer") if getattr(self, name)]
        if idle and not self.teachers:
            without = f"without teachers, as targets={self.targets!r} is; several are written A+B"
            raise OptionError(f"{', '.join(idle)} must be 0 {without}")
        if self.layers == "heads" and not (self.teachers and self.heads_on == "last"):
            got = f"targets={self.targets!r} and heads_on={self.heads_on!r}"
            raise OptionError(f"layers 'heads' needs teachers, as in A+B, and heads_on 'last'; got {got}")
        if len(set(self.teachers)) < len(self.teachers):
            raise OptionError(f"targets names a teacher twice: {self.targets!r}")
        if self.teacher_weights and len(self.teacher_weights) != len(self.teachers):
            wanted = f"empty or one a teacher ({len(self.teachers)})"
            raise OptionError(f"teacher_weights must be {wanted}, got {self.teacher_weights!r}")
        if self.encoder == "clstm" and (self.part_weight or self.heads_on == "multi"):
            got = f"{self.part_weight!r} and {self.heads_on!r}"
            raise OptionError(f"clstm has no columns, so part_weight must be 0 and heads_on last; got {got}")

    @property
    def crop_samples(self) -> int:
        """Fewest samples that give ``crop_frames`` centred frames: 96 frames are 15200 samples, 0.95 s."""
        return (self.crop_frames - 1) * HOP_SAMPLES

    def total_steps(self, n_samples: int) -> int:
        """Length of the run on a pool of ``n_samples``."""
        return self.steps or max(1, math.ceil(self.epochs * n_samples / self.crop_samples / self.batch_size))

    def rate(self, step: int, total_steps: int) -> float:
        """Learning rate of step ``step`` (from 0): linear rise; then constant, or half a cosine.

        It begins anew at each of ``restarts`` within the run (Loshchilov and Hutter 2017, *SGDR*).
        """
        bounds = [bound for bound in (0, *self.restarts) if bound < total_steps]
        begin = max(bound for bound in bounds if bound <= step)
        end = min((bound for bound in bounds if bound > step), default=total_steps)
        step, total_steps = step - begin, end - begin
        progress = step / total_steps
        if progress < self.warmup:
            return self.learning_rate * (step + 1) / (self.warmup * total_steps + 1)
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))
