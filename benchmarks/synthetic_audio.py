"""Audio for pre-training that no one recorded: speech by espeak-ng, music by FluidSynth.

    python benchmarks/synthetic_audio.py speech --hours 3 --output made/speech
    python benchmarks/synthetic_audio.py music --hours 3 --output made/music --soundfont FluidR3_GM.sf2

Writes FLAC files for ``hear-byols pretrain --data made/speech made/music ...``. The same seed gives the same files with
the same programs; files that are there are kept, so a run that was killed goes on. Needs espeak-ng, or FluidSynth, a
General MIDI sound font and ``pip install mido``.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

CONSONANTS = "b bl br ch d dr f fl fr g gr h j k kl kr l m n p pl pr r s sh sk sp st t tr v w z"
VOWELS = "a e i o u ai au ei ie oa ou ui"
ENDS = ("", "", "", "n", "m", "r", "l", "s", "t", "k")
MUSIC_SECONDS = 60  # of a file; notes still ringing then are cut
MUSIC_RATE = 32000
SPEECH_WORDS = (1, 12)  # of an utterance
SPEECH_TRIES = 5  # some languages of espeak-ng crash at some speeds and texts; another draw then takes their place
PITCH_RANGES = ("x-low", "low", "medium", "high", "x-high")
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9), tuple(range(12)))
DRUMS = (35, 81)  # General MIDI's percussion keys, on the tenth channel
TICKS = 480  # a second: a tempo of 60 quarter notes a minute


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


def voices() -> tuple[list[str], list[str]]:
    """Files of espeak-ng's languages, and names of its speakers, which any language can have."""
    languages = [line.split()[4] for line in run("espeak-ng", "--voices").splitlines()[1:]]
    variants = run("espeak-ng", "--voices=variant").splitlines()[1:]
    speakers = [line.rpartition("!v/")[2].partition("  ")[0].strip() for line in variants]  # names may hold spaces
    return sorted(set(languages)), sorted(set(speakers))


def pseudo_text(dice: random.Random) -> str:
    """Words that mean nothing, among them numbers, which each language reads in its own way."""
    onsets, vowels = CONSONANTS.split(), VOWELS.split()

    def word() -> str:
        if dice.random() < 0.3:
            return str(dice.randrange(10 ** dice.randint(1, 4)))
        syllables = (dice.choice(onsets) + dice.choice(vowels) for _ in range(dice.randint(1, 4)))
        return "".join(syllables) + dice.choice(ENDS)

    words = (word() + dice.choice(("", "", "", ",")) for _ in range(dice.randint(*SPEECH_WORDS)))
    return " ".join(words).rstrip(",") + dice.choice(".?!")


def write_speech(path: Path, dice: random.Random, languages: Sequence[str], speakers: Sequence[str]) -> None:
    """Speak one utterance: any language, speaker, pitch, range of pitch, speed and level."""
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "speech.wav"
        for attempt in range(SPEECH_TRIES):
            voice = f"{dice.choice(languages)}+{dice.choice(speakers)}"
            options = ["-p", dice.randint(0, 99), "-s", dice.randint(80, 320), "-a", dice.randint(20, 160)]
            text = f'<prosody range="{dice.choice(PITCH_RANGES)}">{pseudo_text(dice)}</prosody>'
            try:
                run("espeak-ng", "-v", voice, *map(str, options), "-w", str(wav), "-m", text)
                break
            except ProgramError:
                if attempt == SPEECH_TRIES - 1:
                    raise
        samples, rate = soundfile.read(wav, dtype="float32")
    store(path, samples, rate)


Note = tuple[float, float, int, int]  # onset and duration in seconds, MIDI pitch, velocity


def single_notes(dice: random.Random) -> list[Note]:
    """One note after the other, of any pitch."""
    notes, onset = [], 0.0
    while onset < MUSIC_SECONDS:
        duration = 0.2 * 20 ** dice.random()  # up to 4 s
        notes.append((onset, duration, dice.randint(24, 103), dice.randint(30, 127)))
        onset += duration + dice.uniform(0, 0.5)
    return notes


def melody(dice: random.Random, scale: Sequence[int], root: int, beat: float) -> list[Note]:
    """A walk on a scale, now and then a chord of thirds."""
    notes, onset = [], 0.0
    degree, octave = dice.randrange(len(scale)), dice.randint(3, 6)
    while onset < MUSIC_SECONDS:
        duration = beat * dice.choice((0.5, 0.5, 1, 1, 2, 4))
        degree += dice.choice((-3, -2, -1, -1, 0, 1, 1, 2, 3))
        degree = min(max(degree, -len(scale)), 2 * len(scale))
        velocity = dice.randint(50, 120)
        if dice.random() < 0.8:
            for third in range(dice.choice((1, 1, 1, 2, 3))):
                up, step = divmod(degree + 2 * third, len(scale))
                notes.append((onset, duration, min(12 * (octave + up) + root + scale[step], 108), velocity))
        onset += duration
    return notes


def rhythm(dice: random.Random, beat: float) -> list[Note]:
    """A pattern of percussion, repeated."""
    pattern = [(dice.randrange(16), dice.randint(*DRUMS), dice.randint(50, 120)) for _ in range(dice.randint(4, 12))]
    bars = int(MUSIC_SECONDS / (4 * beat))
    return [((4 * bar + place / 4) * beat, beat / 4, drum, v) for bar in range(bars) for place, drum, v in pattern]


def music(dice: random.Random) -> dict[int, list[Note]]:
    """Notes by MIDI channel: single notes in half of the files, else up to four voices and drums."""
    if dice.random() < 0.5:
        return {0: single_notes(dice)}
    scale, root, beat = dice.choice(SCALES), dice.randrange(12), dice.uniform(0.25, 0.8)
    parts = {channel: melody(dice, scale, root, beat) for channel in range(dice.randint(1, 4))}
    return {**parts, 9: rhythm(dice, beat)} if dice.random() < 0.5 else parts


def write_midi(path: Path, parts: dict[int, list[Note]], dice: random.Random) -> None:
    """Write notes as a MIDI file, each channel with any instrument, which single notes change now and then."""
    import mido

    file = mido.MidiFile(ticks_per_beat=TICKS)
    for channel, notes in parts.items():
        events = []
        for i, (onset, duration, pitch, velocity) in enumerate(notes):
            if i % 16 == 0 and channel != 9 and (i == 0 or len(parts) == 1):
                program = mido.Message("program_change", channel=channel, program=dice.randrange(120))
                events.append((onset, 1, program))
            note = {"channel": channel, "note": pitch}
            events.append((onset, 2, mido.Message("note_on", velocity=velocity, **note)))
            events.append((onset + duration, 0, mido.Message("note_off", **note)))
        track, now = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=1_000_000)]), 0
        for seconds, _, message in sorted(events, key=lambda event: event[:2]):
            tick = round(seconds * TICKS)
            track.append(message.copy(time=tick - now))
            now = tick
        file.tracks.append(track)
    file.save(path)


def write_music(path: Path, dice: random.Random, soundfont: str) -> None:
    """Play one file of :func:`music`."""
    with tempfile.TemporaryDirectory() as folder:
        midi, wav = Path(folder) / "music.mid", Path(folder) / "music.wav"
        write_midi(midi, music(dice), dice)
        options = ["-ni", "-q", "-r", str(MUSIC_RATE), "-g", f"{dice.uniform(0.2, 1):.2f}", "-F", str(wav)]
        run("fluidsynth", *options, soundfont, str(midi))
        samples, rate = soundfile.read(wav, dtype="float32")
    store(path, samples.mean(axis=1)[: MUSIC_SECONDS * rate], rate)


def store(path: Path, samples: np.ndarray, rate: int) -> None:
    """Write FLAC, whole or not at all."""
    part = path.with_suffix(".part")
    soundfile.write(part, samples, rate, format="FLAC")
    part.replace(path)


def make(output: Path, hours: float, seed: int, write: Callable[[Path, random.Random], None]) -> None:
    """Write numbered files until they are long enough, each from a seed of its own."""
    output.mkdir(parents=True, exist_ok=True)
    seconds, i = 0.0, 0
    with tqdm(total=round(3600 * hours), unit="s") as bar:
        while seconds < 3600 * hours:
            path = output / f"{i:06d}.flac"
            if not path.exists():
                write(path, random.Random(f"{seed} {i}"))
            duration = soundfile.info(path).duration
            seconds, i = seconds + duration, i + 1
            bar.update(duration)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("speech", "music"))
    parser.add_argument("--hours", type=float, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--soundfont", help="General MIDI sound font (.sf2), for music")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.kind == "music" and not (args.soundfont and Path(args.soundfont).is_file()):
        parser.error(f"music needs --soundfont, an .sf2 file; got {args.soundfont!r}")
    try:
        if args.kind == "speech":
            languages, speakers = voices()
            make(args.output, args.hours, args.seed, lambda path, dice: write_speech(path, dice, languages, speakers))
        else:
            make(args.output, args.hours, args.seed, lambda path, dice: write_music(path, dice, args.soundfont))
    except ProgramError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
