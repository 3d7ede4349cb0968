"""Event tasks mixed from isolated sounds, in HEAR format.

``office`` follows DCASE 2016 task 2 (sounds over a background at -6, 0 and +6 dB, events overlap in some clips);
``notes`` follows MAESTRO (transcription of overlapping notes). They are stand-ins: their names are not HEAR's, and
scores on them are not HEAR scores.
"""

import csv
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from hear_byols._util.files import atomic_path
from hear_byols.errors import OptionError, OutputError
from hear_byols.evaluation.sounds import MADE, SAMPLE_RATE, SPLITS, Sounds, sounds_of_task
from hear_byols.evaluation.tasks import METADATA

_PEAK = 0.9  # of a mixture, at most
_BACKGROUND_RMS = 0.02


@dataclass(frozen=True, kw_only=True)
class SynthesisConfig:
    """What a synthesized task sounds like."""

    kind: str  # "office" or "notes"
    seed: int = 0  # of everything that is drawn
    n_clips: tuple[int, int, int] = (24, 8, 16)  # of training, validation and test
    clip_seconds: float = 20.0
    level_db: tuple[float, ...]  # of an event over the background, by mean power; one of these is drawn a clip
    level_spread_db: float  # by which events of a clip differ, up and down, drawn evenly
    events_per_second: tuple[float, ...]  # mean number of onsets; one of these is drawn a clip
    overlap: float  # share of the clips whose events may overlap
    event_seconds: tuple[float, float]  # shortest and longest event; longer sounds are cut and faded out
    evaluation: tuple[str, ...]  # names of scores, the criterion first
    postprocessing: Mapping[str, list[float]]  # event_postprocessing_grid of the kit

    def __post_init__(self) -> None:
        if len(self.n_clips) != 3 or min(self.n_clips) < 1:
            raise OptionError(f"clips must be three positive numbers (train, valid, test), got {self.n_clips}")
        if not 1 <= self.clip_seconds <= 3600:
            raise OptionError(f"clips must last 1 to 3600 s, got {self.clip_seconds}")
        if not self.level_db or not self.events_per_second or min(self.events_per_second) <= 0:
            raise OptionError("at least one level and one positive density are needed")
        if type(self.seed) is not int or self.seed < 0:
            raise OptionError(f"the seed must be an integer from 0, got {self.seed!r}")


SYNTHESES = {
    "office": SynthesisConfig(
        kind="office",
        level_db=(-6.0, 0.0, 6.0),  # as DCASE 2016
        level_spread_db=0.0,
        events_per_second=(0.25, 0.5),
        overlap=0.5,
        event_seconds=(0.2, 3.0),
        evaluation=("event_onset_200ms_fms", "segment_1s_er"),
        postprocessing={"median_filter_ms": [250], "min_duration": [125, 250]},
    ),
    "notes": SynthesisConfig(
        kind="notes",
        level_db=(30.0,),
        level_spread_db=6.0,
        events_per_second=(2.0, 4.0),
        overlap=1.0,
        event_seconds=(0.2, 1.5),
        evaluation=("event_onset_50ms_fms", "event_onset_offset_50ms_20perc_fms"),
        postprocessing={"median_filter_ms": [150], "min_duration": [50]},
    ),
}
_RELEASE = {"office": 0.01, "notes": 0.05}  # seconds of fading out where a sound is cut


def synthesize(
    output: str | os.PathLike[str], config: SynthesisConfig, *, source: str | os.PathLike[str] | None = None
) -> Path:
    """Write a task in HEAR format, and return its folder; the same configuration and sounds give the same samples.

    Clips are written whole and the metadata last, so a run that was killed starts over what is not there.

    Args:
        output: folder for the task's folder.
        config: one of :data:`SYNTHESES`, or a changed one.
        source: scene task in HEAR format whose clips are mixed; by default sounds are made.

    Raises:
        TaskError: the source is not a scene task with usable clips.
        OutputError: the folder holds another task, or cannot be written.
    """
    sounds = sounds_of_task(source) if source else MADE[config.kind]
    name = f"synthetic_{config.kind}_of_{sounds.task}" if sounds.task else f"synthetic_{config.kind}"
    folder = Path(output) / f"{name}-v1-seed{config.seed}"
    metadata = _metadata(name, config, sounds)
    if _is_there(folder, metadata):
        return folder
    try:
        for number, (split, n_clips) in enumerate(zip(SPLITS, config.n_clips, strict=True)):
            labels = {}
            for i in range(n_clips):
                name = f"{split}-{i:04d}.wav"
                mixture, labels[name] = mix(config, sounds, split, np.random.default_rng([config.seed, number, i]))
                with atomic_path(folder / str(SAMPLE_RATE) / split / name) as part:
                    soundfile.write(part, mixture, SAMPLE_RATE, subtype="PCM_16")
            _write_text(folder / f"{split}.json", json.dumps(labels, indent=1))
        with atomic_path(folder / "labelvocabulary.csv") as part, open(part, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([("idx", "label"), *enumerate(sounds.labels)])
        _write_text(folder / METADATA, json.dumps(metadata, indent=1))
    except (OSError, soundfile.LibsndfileError) as error:
        raise OutputError(f"{folder} cannot be written ({error})") from error
    return folder


def mix(
    config: SynthesisConfig, sounds: Sounds, split: str, random: np.random.Generator
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """One clip: samples, float32 [shape=(n_samples,)], and its events in HEAR's form, in order of their onsets."""
    n_samples = round(config.clip_seconds * SAMPLE_RATE)
    background = _pink(n_samples, random) * _BACKGROUND_RMS
    mixture, events = background.copy(), []
    level = float(random.choice(config.level_db))
    density = float(random.choice(config.events_per_second))
    alone = random.uniform() >= config.overlap
    taken = np.zeros(n_samples, bool)
    for _ in range(max(1, random.poisson(density * config.clip_seconds))):
        label = str(random.choice(sounds.labels))
        sound = _cut(sounds.draw(label, split, random), config, random)[:n_samples]
        first = int(random.integers(0, n_samples - len(sound) + 1))
        place = slice(first, first + len(sound))
        gain = level + random.uniform(-1, 1) * config.level_spread_db
        same = [e for e in events if e["label"] == label and e["start"] < _ms(place.stop) and e["end"] > _ms(first)]
        if same or (alone and taken[place].any()):
            continue  # two of one label at a time cannot be told apart in the labels
        taken[place] = True
        mixture[place] += sound * (_rms(background[place]) * 10 ** (gain / 20) / max(_rms(sound), 1e-9))
        events.append({"label": label, "start": _ms(first), "end": _ms(place.stop)})
    mixture *= min(1.0, _PEAK / np.abs(mixture).max())
    return mixture.astype(np.float32), sorted(events, key=lambda event: (event["start"], event["label"]))


def _cut(sound: np.ndarray, config: SynthesisConfig, random: np.random.Generator) -> np.ndarray:
    """Shorten to a drawn length (notes) or to the longest (office), and fade out where it was cut."""
    shortest, longest = (round(seconds * SAMPLE_RATE) for seconds in config.event_seconds)
    length = int(random.integers(shortest, longest + 1)) if config.kind == "notes" else longest
    if len(sound) <= length:
        return sound
    sound = sound[:length].copy()
    n_fade = min(length, round(_RELEASE[config.kind] * SAMPLE_RATE))
    sound[-n_fade:] *= np.linspace(1, 0, n_fade, dtype=sound.dtype)
    return sound


def _pink(n_samples: int, random: np.random.Generator) -> np.ndarray:
    """Noise whose power falls with frequency, of mean power 1."""
    spectrum = np.fft.rfft(random.normal(size=n_samples))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[: max(1, 20 * n_samples // SAMPLE_RATE)] = 0  # below 20 Hz
    noise = np.fft.irfft(spectrum, n_samples)
    return noise / _rms(noise)


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def _ms(sample: int) -> float:
    return 1000 * sample / SAMPLE_RATE


def _metadata(name: str, config: SynthesisConfig, sounds: Sounds) -> dict[str, Any]:
    stated = {name: value for name, value in asdict(config).items() if name not in ("evaluation", "postprocessing")}
    content = {
        "task_name": name,
        "version": "v1",
        # Spelled as in the folders there are: an equal record says that a folder is done (_is_there).
        "description": f"synthesised {config.kind} clips; a stand-in, not a HEAR task",
        "embedding_type": "event",
        "prediction_type": "multilabel",
        "split_mode": "trainvaltest",
        "sample_duration": config.clip_seconds,
        "evaluation": list(config.evaluation),
        "evaluation_params": {"event_postprocessing_grid": dict(config.postprocessing)},
        "splits": list(SPLITS),
        "nfolds": None,
        "sample_rates": [SAMPLE_RATE],
        "synthesis": {**stated, "sounds": sounds.origin, "background": "pink noise"},
    }
    return json.loads(json.dumps(content))


def _is_there(folder: Path, metadata: dict[str, Any]) -> bool:
    try:
        present = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        present = None
    if present != metadata:
        raise OutputError(f"{folder} holds a task of another recipe; choose another output folder or remove it")
    return True


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as part:
        part.write_text(text + "\n", encoding="utf-8")
