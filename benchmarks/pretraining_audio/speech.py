"""Speech by espeak-ng and flite, and how programs are run."""

import itertools
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import date, time, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from scipy import signal

RATE = 16000
VOICES = {  # of espeak-ng: the locale whose names, numbers and dates it reads
    **{"ar": "ar", "bg": "bg", "bn": "bn", "ca": "ca", "cmn": "zh", "cs": "cs", "da": "da", "de": "de", "el": "el"},
    **{
        "en-gb": "en_GB",
        "en-us": "en",
        "es": "es",
        "es-419": "es_MX",
        "fa": "fa",
        "fi": "fi",
        "fr-fr": "fr",
        "hi": "hi",
    },
    **{"hu": "hu", "id": "id", "is": "is", "it": "it", "ka": "ka", "ko": "ko", "lt": "lt", "nl": "nl", "nb": "nb"},
    **{
        "pl": "pl",
        "pt": "pt_PT",
        "pt-br": "pt",
        "ro": "ro",
        "ru": "ru",
        "sv": "sv",
        "sw": "sw",
        "ta": "ta",
        "te": "te",
    },
    **{"tr": "tr", "uk": "uk", "ur": "ur", "vi": "vi", "vi-vn-x-south": "vi"},
}
FLITE_VOICES = ("awb", "kal16", "rms", "slt")
PITCH_RANGES = ("x-low", "low", "medium", "high", "x-high")
UNITS = ("length-kilometer", "mass-kilogram", "temperature-celsius", "volume-liter", "duration-minute", "length-meter")
SPEECH_TRIES = 5  # some languages of espeak-ng crash at some speeds and texts; another draw then takes their place


class ProgramError(RuntimeError):
    """A program is missing, or failed."""


def run(*command: str) -> str:
    """Run a program.

    Raises:
        ProgramError: it is not installed, or its status is not 0.
    """
    if shutil.which(command[0]) is None:
        raise ProgramError(f"{command[0]} is not installed; it is a package of most systems, such as Debian")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ProgramError(f"{command[0]} failed with status {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def wav_of(command: Callable[[str], Sequence[str]]) -> np.ndarray:
    """Samples at 16 kHz that a program writes to the file it is given, mixed down."""
    with tempfile.TemporaryDirectory() as folder:
        wav = str(Path(folder) / "out.wav")
        run(*command(wav))
        return decode(wav)


def decode(path: str | Path) -> np.ndarray:
    """Samples of an audio file at 16 kHz, mixed down."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return signal.resample_poly(samples.mean(axis=1), RATE, rate) if rate != RATE else samples.mean(axis=1)


@cache
def names(locale: str) -> list[str]:
    """Names of countries, languages, currencies, months and days in a language."""
    from babel import Locale

    of = Locale.parse(locale)
    names = {*of.territories.values(), *of.languages.values(), *of.currencies.values()}
    times = [*of.months["stand-alone"]["wide"].values(), *of.days["stand-alone"]["wide"].values()]
    return sorted(names) + times


def text(dice: random.Random, locale: str) -> str:
    """Something short to read: a name, a few of them, digits, a number, a date, a time, a measure."""
    from babel import dates, lists, units

    some = dice.sample(names(locale), dice.randint(2, 5))
    return dice.choice(
        (
            some[0],
            some[0],
            lists.format_list(some, locale=locale) + dice.choice("?!."),
            " ".join(dice.choices("0123456789", k=dice.randint(1, 6))),
            str(dice.randrange(10 ** dice.randint(1, 5))),
            dates.format_date(date(2000, 1, 1) + timedelta(dice.randrange(9999)), "full", locale=locale),
            dates.format_time(time(dice.randrange(24), dice.randrange(60)), "short", locale=locale),
            units.format_unit(dice.randrange(1, 500), dice.choice(UNITS), locale=locale),
        )
    )


@cache
def speakers() -> list[str]:
    """Names of espeak-ng's speakers, which any language can have."""
    lines = run("espeak-ng", "--voices=variant").splitlines()[1:]
    return sorted({line.rpartition("!v/")[2].partition("  ")[0].strip() for line in lines})  # names may hold spaces


def speech(dice: random.Random) -> Iterator[np.ndarray]:
    """One utterance of espeak-ng: any language, speaker, pitch, range of pitch and speed."""
    for attempt in range(SPEECH_TRIES):
        voice = dice.choice(list(VOICES))
        said = " ".join(text(dice, VOICES[voice]) for _ in range(dice.choice((1, 1, 1, 2, 3))))
        marked = f'<prosody range="{dice.choice(PITCH_RANGES)}">{said.replace("&", " ")}</prosody>'
        options = ("-p", str(dice.randint(0, 99)), "-s", str(dice.randint(90, 280)), "-m", marked)
        name = f"{voice}+{dice.choice(speakers())}"
        try:
            yield wav_of(lambda wav: ("espeak-ng", "-v", name, "-w", wav, *options))  # noqa: B023
            return
        except ProgramError:
            if attempt == SPEECH_TRIES - 1:
                raise


def flite(dice: random.Random) -> Iterator[np.ndarray]:
    """One English utterance of flite, whose voices are cut from recordings of people."""
    said = " ".join(text(dice, "en") for _ in range(dice.choice((1, 1, 2, 3))))
    features = {
        "duration_stretch": dice.uniform(0.7, 1.5),
        "int_f0_target_mean": dice.uniform(80, 260),
        "int_f0_target_stddev": dice.uniform(5, 45),
    }
    options = itertools.chain(*(("--setf", f"{name}={value:.2f}") for name, value in features.items()))
    voice = dice.choice(FLITE_VOICES)
    yield wav_of(lambda wav: ("flite", "-voice", voice, *options, "-t", said, "-o", wav))
