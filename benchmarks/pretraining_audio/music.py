"""Notes and music of random instruments by FluidSynth."""

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from .speech import RATE, wav_of

SCALES = (
    (0, 2, 4, 5, 7, 9, 11),
    (0, 2, 3, 5, 7, 8, 10),
    (0, 2, 3, 5, 7, 9, 10),
    (0, 2, 4, 7, 9),
    (0, 1, 4, 5, 7, 8, 11),
)
PROGRAMS = 128
DRUM_CHANNEL = 9
DRUMS = (35, 81)  # General MIDI's percussion keys
TICKS = 480  # a second: a tempo of 60 quarter notes a minute
NOTES_A_RUN, NOTE_SECONDS = 24, 6.0  # a run of FluidSynth plays many notes, since loading the sound font takes long

Note = tuple[float, float, int, int]  # onset and duration in seconds, MIDI pitch, velocity


def notes(dice: random.Random, soundfont: str) -> Iterator[np.ndarray]:
    """Single notes of random instruments, one of which in 16 is a drum: a clip each."""
    parts = []
    for i in range(NOTES_A_RUN):
        drum = dice.random() < 1 / 16
        pitch = dice.randint(*DRUMS) if drum else dice.randint(28, 100)
        note = (i * NOTE_SECONDS, 0.25 * 14 ** dice.random(), pitch, dice.randint(30, 127))
        parts.append((DRUM_CHANNEL if drum else i % 8, dice.randrange(PROGRAMS), [note]))
    played = play(parts, dice, soundfont)
    for _, _, [(onset, duration, _, _)] in parts:
        yield played[int(onset * RATE) : int((onset + min(duration + 1.0, NOTE_SECONDS)) * RATE)]


def music(dice: random.Random, soundfont: str) -> Iterator[np.ndarray]:
    """A piece of up to 28 s: melody, chords, bass and drums or some of them, on four chords that repeat."""
    scale, root, beat = dice.choice(SCALES), dice.randrange(12), dice.uniform(0.25, 0.8)
    bars = max(int(dice.uniform(6, 28) / (4 * beat)), 1)
    chords = [dice.randrange(len(scale)) for _ in range(4)]

    def pitch(degree: int, octave: int) -> int:
        up, step = divmod(degree, len(scale))
        return min(12 * (octave + up) + root + scale[step], 108)

    def line(choose: Callable[[int], list[int]], lengths: Sequence[float], octave: int, rest: float) -> list[Note]:
        played, now = [], 0.0
        while now < 4 * bars:
            length = min(dice.choice(lengths), 4 * bars - now)
            if dice.random() >= rest:
                level = dice.randint(50, 115)
                degrees = choose(chords[int(now // 4) % 4])
                played += [(now * beat, length * beat, pitch(degree, octave), level) for degree in degrees]
            now += length
        return played

    beats = [(dice.randrange(16) / 4, dice.randint(*DRUMS), dice.randint(50, 120)) for _ in range(dice.randint(4, 12))]
    lines = [
        line(
            lambda chord: [chord + dice.choice((0, 0, 1, 2, 2, 3, 4, 7))], (0.5, 0.5, 1, 1, 2), dice.randint(4, 6), 0.2
        ),
        line(lambda chord: [chord, chord + 2, chord + 4], (1, 2, 4, 4), dice.randint(3, 5), 0.1),
        line(lambda chord: [chord], (0.5, 1, 2), 2, 0.1),
        [((4 * bar + at) * beat, beat / 4, drum, level) for bar in range(bars) for at, drum, level in beats],
    ]
    channels = dice.sample((0, 1, 2, DRUM_CHANNEL), dice.randint(1, 4))
    parts = [(channel, dice.randrange(PROGRAMS), lines[min(channel, 3)]) for channel in channels]
    yield play(parts, dice, soundfont)[: int((4 * bars * beat + 1) * RATE)]


def play(parts: Sequence[tuple[int, int, list[Note]]], dice: random.Random, soundfont: str) -> np.ndarray:
    """Notes of channels and programs, played by FluidSynth, with its room or without."""
    import mido

    events = []
    for channel, program, played in parts:
        first = min((onset for onset, *_ in played), default=0.0)
        events.append((first, 1, mido.Message("program_change", channel=channel, program=program)))
        for onset, duration, pitch, velocity in played:
            note = {"channel": channel, "note": pitch}
            events.append((onset, 2, mido.Message("note_on", velocity=velocity, **note)))
            events.append((onset + duration, 0, mido.Message("note_off", **note)))
    track, now = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=1_000_000)]), 0
    for seconds, _, message in sorted(events, key=lambda event: event[:2]):
        tick = round(seconds * TICKS)
        track.append(message.copy(time=tick - now))
        now = tick
    room = dice.choice("01")
    with tempfile.TemporaryDirectory() as folder:
        midi = f"{folder}/music.mid"
        mido.MidiFile(ticks_per_beat=TICKS, tracks=[track]).save(midi)
        options = ("-ni", "-q", "-r", "48000", "-g", "0.5", "-R", room, "-C", room)
        return wav_of(lambda wav: ("fluidsynth", *options, "-F", wav, soundfont, midi))
