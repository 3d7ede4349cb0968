"""What defines a model, as frozen records without torch: front end, encoder and normalization.

A :class:`ModelConfig` travels inside every checkpoint, so a file alone fixes its vectors (``docs/checkpoints.md``).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from hear_byols._util.numbers import plain_fields
from hear_byols.errors import OptionError

INVARIANT_MODES = ("dataset", "clip", "halfway")  # a vector depends on its own clip alone
NORMALIZATION_MODES = (*INVARIANT_MODES, "original")
LAYERS = ("last", "multi", "heads")
PRECISIONS = ("float32", "bfloat16", "float16")
# Far beyond any sensible model; a configuration in a bad file must not claim gigabytes.
_MAX = {"sample_rate": 384_000, "n_fft": 32_768, "n_mels": 512, "embedding_size": 65_536}
_MIN_RATE = 1000  # Hz
# For a second of audio: frames, and the values of their Fourier transforms (the paper: 100, and 100 times 1024).
_MAX_FRAMES, _MAX_VALUES = 2000, 2**24


def _check_count(name: str, value: object, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise OptionError(f"{name} must be an integer from 1 to {most}, got {value!r}")


def _is_number(value: object, least: float, most: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


@dataclass(frozen=True)
class FrontendConfig:
    """Log-mel front end (paper, section 2): 64 HTK mel bands from 60 to 7800 Hz, 25 ms windows every 10 ms."""

    sample_rate: int = 16000  # of the input in Hz
    n_fft: int = 1024  # FFT size in samples
    win_length: int = 400  # length of the Hann window in samples, centred in the FFT frame
    hop_length: int = 160  # distance of two spectrogram frames in samples
    n_mels: int = 64  # number of mel bands
    f_min: float = 60.0  # lower edge of the lowest band in Hz
    f_max: float = 7800.0  # upper edge of the highest band in Hz

    def __post_init__(self) -> None:
        plain_fields(self)
        for name in ("sample_rate", "n_fft", "win_length", "hop_length", "n_mels"):
            _check_count(f"frontend.{name}", getattr(self, name), _MAX.get(name, self.n_fft))
        if self.sample_rate < _MIN_RATE:
            raise OptionError(f"frontend.sample_rate must be at least {_MIN_RATE} Hz, got {self.sample_rate}")
        n_frames = self.sample_rate / self.hop_length
        if n_frames > _MAX_FRAMES or n_frames * self.n_fft > _MAX_VALUES:
            raise OptionError(
                f"a front end has at most {_MAX_FRAMES} frames a second, and {_MAX_VALUES} values in their Fourier "
                f"transforms; hop_length={self.hop_length} and n_fft={self.n_fft} at {self.sample_rate} Hz give "
                f"{n_frames:g} and {n_frames * self.n_fft:g}; take a longer hop"
            )
        nyquist = self.sample_rate / 2
        if not (_is_number(self.f_min, 0, nyquist) and _is_number(self.f_max, 0, nyquist) and self.f_min < self.f_max):
            got = f"got f_min={self.f_min!r}, f_max={self.f_max!r}"
            raise OptionError(f"frontend frequencies must satisfy 0 <= f_min < f_max <= {nyquist:g} Hz, {got}")


@dataclass(frozen=True)
class EncoderConfig:
    """Which encoder (paper, Table 1).

    Its layers are ``"last"``, the embedding of the last layer alone (the paper's); ``"multi"``, which puts the temporal
    maxima of layers before it behind it (Niizumi et al. 2022); or ``"heads"``, what the model believes its teachers
    would say of the sound.
    """

    name: str  # cnn, resnetish34, clstm or cvt
    embedding_size: int  # of the last layer; free (512, 1024, 2048, ...) for the CNN, fixed for the others
    layers: str = "last"
    head_components: int = 0  # values of "heads"; 0: the weights have none

    def __post_init__(self) -> None:
        plain_fields(self)
        if not isinstance(self.name, str):
            raise OptionError(f"encoder.name must be a string, got {self.name!r}")
        _check_count("encoder.embedding_size", self.embedding_size, _MAX["embedding_size"])
        if self.layers not in LAYERS:
            raise OptionError(f"layers must be one of {', '.join(LAYERS)}; got {self.layers!r}")
        if self.head_components != 0:
            _check_count("encoder.head_components", self.head_components, _MAX["embedding_size"])
        elif self.layers == "heads":
            raise OptionError("layers 'heads' is for weights that learnt from teachers, these have last and multi")


@dataclass(frozen=True)
class NormalizationConfig:
    """How log-mel spectrograms are standardized before the encoder.

    The mode is ``"dataset"`` (fixed ``mean`` and ``std``), ``"clip"`` (each clip by its own statistics), ``"halfway"``
    (between these two) or ``"original"`` (the original's statistics over the whole call; depends on batch-mates, only
    for reproducing published figures).
    """

    mode: str = "clip"
    mean: float | None = None  # of the data set's log-mel values, in nepers of power; for "dataset" and "halfway"
    std: float | None = None  # likewise

    @property
    def of_dataset(self) -> tuple[float, float]:
        """Mean and standard deviation of the data set, where the mode needs them."""
        assert self.mean is not None, self.mode
        assert self.std is not None, self.mode
        return self.mean, self.std

    def __post_init__(self) -> None:
        plain_fields(self)
        if self.mode not in NORMALIZATION_MODES:
            raise OptionError(f"normalization must be one of {', '.join(NORMALIZATION_MODES)}; got {self.mode!r}")
        if (self.mean is None) != (self.std is None):
            raise OptionError("normalization needs both mean and std, or neither")
        if self.std is not None and not (_is_number(self.mean, -1e3, 1e3) and _is_number(self.std, 1e-3, 1e3)):
            got = f"got mean={self.mean!r}, std={self.std!r}"
            raise OptionError(f"normalization needs a mean in [-1000, 1000] and a std in [0.001, 1000], {got}")
        if self.mode in ("dataset", "halfway") and self.mean is None:
            raise OptionError(
                f"normalization {self.mode!r} needs the data set's mean and std, which this checkpoint does not hold; "
                "use normalization='clip'"
            )


@dataclass(frozen=True)
class ModelConfig:
    """Everything that turns a waveform into a vector, apart from the weights."""

    encoder: EncoderConfig
    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    normalization: NormalizationConfig = field(default_factory=NormalizationConfig)

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain dictionaries, JSON-able."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelConfig:
        """Build from :meth:`to_dict`'s form.

        Raises:
            OptionError: unknown or missing fields, or values out of range.
        """
        parts = {"encoder": EncoderConfig, "frontend": FrontendConfig, "normalization": NormalizationConfig}
        if not isinstance(data, dict) or set(data) != set(parts):
            got = sorted(data) if isinstance(data, dict) else type(data).__name__
            raise OptionError(f"a model configuration has the parts {sorted(parts)}, got {got}")
        for name in parts:
            if not isinstance(data[name], dict):
                raise OptionError(f"the part {name!r} of a model configuration is a dictionary, got {data[name]!r}")
        try:
            return cls(**{name: part(**data[name]) for name, part in parts.items()})
        except TypeError as error:
            raise OptionError(f"model configuration: {error}") from error
