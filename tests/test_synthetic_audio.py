"""Synthetic speech and music for pre-training, by the real programs."""

from __future__ import annotations

import random
import shutil
import sys
from importlib import util
from pathlib import Path

import numpy as np
import pytest
import soundfile

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import synthetic_audio as made

SOUNDFONTS = sorted(Path("/usr/share/sounds/sf2").glob("*.sf2"))
needs_espeak = pytest.mark.skipif(not shutil.which("espeak-ng"), reason="needs the system package espeak-ng")
needs_fluidsynth = pytest.mark.skipif(
    not (shutil.which("fluidsynth") and SOUNDFONTS and util.find_spec("mido")),
    reason="needs the system packages fluidsynth and fluid-soundfont-gm, and mido",
)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@needs_espeak
def test_speech_is_long_enough_varied_and_the_same_for_the_same_seed(tmp_path):
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        made.main(["speech", "--hours", "0.01", "--output", str(tmp_path / name), "--seed", seed])
    clips = [soundfile.read(path)[0] for path in sorted((tmp_path / "a").iterdir())]
    rate = soundfile.info(tmp_path / "a" / "000000.flac").samplerate
    assert sum(map(len, clips)) >= 36 * rate
    assert all(np.abs(clip).max() > 0.01 for clip in clips)
    assert len({len(clip) for clip in clips}) == len(clips)
    assert content(tmp_path / "a") == content(tmp_path / "b") != content(tmp_path / "c")


@needs_espeak
def test_files_that_are_there_are_kept(tmp_path):
    arguments = ["speech", "--hours", "0.01", "--output", str(tmp_path)]
    made.main(arguments)
    complete = content(tmp_path)
    (tmp_path / "000001.flac").unlink()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    made.main(arguments)
    assert content(tmp_path) == complete
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())


@needs_espeak
def test_every_language_and_speaker_speaks():
    languages, speakers = made.voices()
    assert len(languages) > 50
    assert len(speakers) > 20
    for voice in [*languages[::10], *(f"{languages[0]}+{speaker}" for speaker in speakers[::10])]:
        made.run("espeak-ng", "-q", "-v", voice, "12")


@needs_fluidsynth
def test_a_single_note_sounds_at_its_pitch(tmp_path, monkeypatch):
    monkeypatch.setattr(made, "MUSIC_SECONDS", 2)
    monkeypatch.setattr(made, "music", lambda dice: {0: [(0.0, 1.8, 69, 100)]})

    class Flute(random.Random):
        def randrange(self, *args):
            return 73

    made.write_music(tmp_path / "a.flac", Flute(0), str(SOUNDFONTS[0]))
    samples, rate = soundfile.read(tmp_path / "a.flac")
    second = samples[rate // 2 : rate // 2 + rate]
    assert np.abs(np.fft.rfft(second)).argmax() == pytest.approx(440, abs=10)  # bins of 1 Hz; 69 is A4


@needs_fluidsynth
def test_music_files_have_their_length_and_differ(tmp_path, monkeypatch):
    monkeypatch.setattr(made, "MUSIC_SECONDS", 5)
    command = ["music", "--hours", "0.004", "--output", str(tmp_path), "--soundfont", str(SOUNDFONTS[0])]
    made.main(command)
    clips = [soundfile.read(path)[0] for path in sorted(tmp_path.iterdir())]
    assert [len(clip) for clip in clips] == [5 * made.MUSIC_RATE] * 3
    assert all(np.abs(clip).max() > 0.001 for clip in clips)
    assert not np.allclose(clips[0], clips[1])


def test_notes_stay_within_the_range_of_midi():
    for seed in range(50):
        parts = made.music(random.Random(seed))
        assert parts
        for channel, notes in parts.items():
            assert 0 <= channel < 16
            assert all(onset >= 0 and duration > 0 for onset, duration, _, _ in notes)
            assert all(0 <= pitch < 128 and 1 <= velocity < 128 for _, _, pitch, velocity in notes)


def test_a_missing_program_and_a_failing_one_are_told():
    with pytest.raises(made.ProgramError, match="no-such-program is not installed"):
        made.run("no-such-program")
    with pytest.raises(made.ProgramError, match="ls failed with status"):
        made.run("ls", "/no/such/folder")


def test_music_without_a_sound_font_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        made.main(["music", "--hours", "1", "--output", str(tmp_path)])
    assert "--soundfont, an .sf2 file; got None" in capsys.readouterr().err
