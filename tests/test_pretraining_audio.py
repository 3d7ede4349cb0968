"""Audio for pre-training made by the real programs, and taken from a package by the licences of its files."""

import io
import random
import re
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from importlib import util
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made_sounds import rows_of

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.pretraining_audio import debian, music, sounds, speech
from benchmarks.pretraining_audio.__main__ import COLUMNS, main

RATE = 16000
SOUNDFONT = next(iter(sorted(Path("/usr/share/sounds/sf2").glob("*.sf2"))), Path("none"))
needs_babel = pytest.mark.skipif(not util.find_spec("babel"), reason="needs babel")
needs_espeak = pytest.mark.skipif(not shutil.which("espeak-ng"), reason="needs the system package espeak-ng")
needs_flite = pytest.mark.skipif(not shutil.which("flite"), reason="needs the system package flite")
needs_dpkg = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs the system package dpkg")
needs_fluidsynth = pytest.mark.skipif(
    not (shutil.which("fluidsynth") and SOUNDFONT.exists() and util.find_spec("mido")),
    reason="needs the system packages fluidsynth and fluid-soundfont-gm, and mido",
)
COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Source: https://example.org/game

Files: *
License: GPL-2+

Files: data/sfx/*
License: CC0-1.0
 A text.

Files: data/sfx/horn.wav
License: CC-BY-SA-3.0

Files: data/music/theme.ogg
Copyright: 2004 Com Poser
License: GPL-3 or CC-BY-3.0
Comment: https://example.org/theme
"""
CONTROL = "Package: game\nVersion: 1.2-3\nArchitecture: all\nMaintainer: N <n@example.org>\nDescription: g\n"


def clips(tar: Path) -> list[np.ndarray]:
    """Clips of a shard, all of which are mono at 16 kHz."""
    with tarfile.open(tar) as shard:
        read = [soundfile.read(io.BytesIO(shard.extractfile(name).read())) for name in sorted(shard.getnames())]
    assert all(rate == RATE and samples.ndim == 1 for samples, rate in read)
    return [samples for samples, _ in read]


def test_a_shard_of_sounds_is_long_enough_varied_and_the_same_for_the_same_seed(tmp_path):
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        main(["sounds", "--hours", "0.003", "--output", str(tmp_path), "--name", name, "--seed", seed])
    made, same, other = (clips(tmp_path / f"{name}.tar") for name in "abc")
    seconds = sum(map(len, made)) / RATE
    assert 10.8 <= seconds < 10.8 + 6
    assert all(0.1 < np.abs(clip).max() <= 1.3 for clip in made)  # Opus overshoots the peak
    assert len({len(clip) for clip in made}) == len(made)
    assert all(np.array_equal(a, b) for a, b in zip(made, same, strict=True))
    assert not np.array_equal(made[0], other[0])
    rows = rows_of(tmp_path / "manifest.csv")
    assert list(rows[0]) == COLUMNS
    assert [(row["shard"], row["clean"]) for row in rows] == [("a.tar", "yes"), ("b.tar", "yes"), ("c.tar", "yes")]
    assert int(rows[0]["clips"]) == len(made)
    assert float(rows[0]["hours"]) == pytest.approx(seconds / 3600, abs=6e-4)


def test_every_kind_of_sound_is_finite_audible_and_new_each_time():
    for kind in sounds.KINDS:
        both = np.stack([sounds.sound(np.random.default_rng(seed), kind, 1.5) for seed in (0, 1)])
        assert both.shape == (2, 24000), kind
        peaks = np.abs(both).max(1)  # NaN and infinity would fail
        assert ((peaks >= 0.1) & (peaks <= 0.9) & (both.std(1) > 0.001)).all(), kind
        assert np.abs(both[0] - both[1]).max() > 0.05, kind


@pytest.mark.parametrize(
    ("what", "options", "column", "told"),
    [
        pytest.param("speech", [], "version", r"espeak-ng \d+\.\d+", marks=[needs_babel, needs_espeak]),
        pytest.param("flite", [], "version", r"flite \d+\.\d+", marks=[needs_babel, needs_flite]),
        pytest.param("notes", ["--soundfont", str(SOUNDFONT)], "author", SOUNDFONT.name, marks=needs_fluidsynth),
        pytest.param("music", ["--soundfont", str(SOUNDFONT)], "author", SOUNDFONT.name, marks=needs_fluidsynth),
    ],
)
def test_programs_make_shards(tmp_path, what, options, column, told):
    main([what, "--hours", "0.002", "--output", str(tmp_path), *options])
    made = clips(tmp_path / f"made_{what}.tar")
    assert sum(map(len, made)) >= 7.2 * RATE
    assert all(len(clip) <= 30 * RATE for clip in made)
    [row] = rows_of(tmp_path / "manifest.csv")
    assert re.search(told, row[column])


@needs_babel
def test_texts_are_of_their_language():
    dice = random.Random(0)
    assert any(ord(letter) > 0x600 for letter in speech.text(dice, "ar") + "".join(speech.names("ar")))
    assert "Niemcy" in speech.names("pl")
    assert len({speech.text(dice, "pl") for _ in range(50)}) > 30


@needs_espeak
def test_every_voice_and_speaker_is_known_to_the_program():
    assert len(speech.speakers()) > 20
    for voice in speech.VOICES:
        speech.run("espeak-ng", "-q", "-v", f"{voice}+{speech.speakers()[0]}", "12")


@needs_fluidsynth
def test_a_note_sounds_at_its_pitch():
    flute, a4 = 73, 69
    played = music.play([(0, flute, [(0.0, 1.8, a4, 100)])], random.Random(0), str(SOUNDFONT))
    second = played[RATE // 2 : RATE // 2 + RATE]
    assert np.abs(np.fft.rfft(second)).argmax() == pytest.approx(440, abs=10)  # bins of 1 Hz


def test_the_last_stanza_that_names_a_file_counts():
    stanzas, link = debian.parsed(COPYRIGHT)
    assert link == "https://example.org/game"
    for path, licence in (
        ("sfx/bang.wav", "CC0-1.0"),
        ("sfx/bang.ogg", "CC0-1.0"),  # converted when the package was built
        ("sfx/horn.wav", "CC-BY-SA-3.0"),
        ("music/theme.ogg", "GPL-3 or CC-BY-3.0"),
        ("music/other.ogg", None),
        ("voice/bang.wav", None),
        ("voice/theme.ogg", "GPL-3 or CC-BY-3.0"),  # the only one of this name
    ):
        names = Counter(("bang", "horn", "theme", "other", "bang"))
        found = debian.stanza_of(f"/usr/share/games/game/{path}", stanzas, names)
        assert (found and found.licence) == licence, path
    assert debian.stanza_of("/usr/share/games/game/voice/theme.ogg", stanzas, Counter(theme=2)) is None
    stanzas, _ = debian.parsed("Files: *\nLicense: GPL-2\n\nFiles: mods/doors/sounds/*\nLicense: MIT\n")
    assert debian.stanza_of("/usr/share/mods/doors/sounds/a.ogg", stanzas, Counter("a")).licence == "MIT"
    assert debian.stanza_of("/usr/share/mods/beds/sounds/a.ogg", stanzas, Counter("a")) is None  # of another part


def test_free_and_other_licences():
    free = ["CC0", "CC-BY-4.0", "CC-BY-3.0-US", "Expat", "GPL-3+ or CC-BY-3.0", "MIT and PD"]
    other = ["CC-BY-SA-3.0", "CC-BY-NC-4.0", "GPL-2+", "CC0 and GPL-2", "BSD-like", "other", ""]
    assert [licence for licence in free + other if debian.Stanza((), licence, "").free] == free


@needs_dpkg
def test_free_files_of_a_package_become_a_shard_with_their_origins(tmp_path):
    root, dice = tmp_path / "game", np.random.default_rng(0)
    audio, doc = root / "usr/share/games/game", root / "usr/share/doc/game"
    for folder in (audio / "sfx", audio / "music", doc, root / "DEBIAN"):
        folder.mkdir(parents=True)
    for name, seconds in (("sfx/bang.wav", 1), ("sfx/horn.wav", 1), ("sfx/tick.wav", 0.1), ("music/theme.ogg", 40)):
        soundfile.write(audio / name, np.repeat(dice.uniform(-1, 1, (int(seconds * 22050), 1)), 2, axis=1), 22050)
    shutil.copy(audio / "sfx/bang.wav", audio / "sfx/again.wav")
    (doc / "copyright").write_text(COPYRIGHT)
    (root / "DEBIAN/control").write_text(CONTROL)
    subprocess.run(["dpkg-deb", "--build", str(root), str(tmp_path / "game.deb")], check=True, capture_output=True)
    main(["debian", "--output", str(tmp_path), "--name", "free", str(tmp_path / "game.deb")])
    taken, told = clips(tmp_path / "free.tar"), rows_of(tmp_path / "free.csv")
    assert [len(clip) / RATE for clip in taken] == pytest.approx([30, 30, 1], abs=0.01)
    assert all(0.5 < np.abs(clip).max() < 1.3 for clip in taken)
    # The short one, the share-alike one and the second of a pair are out.
    assert [Path(row["file"]).name for row in told] == ["theme.ogg", "theme.ogg", "again.wav"]
    assert told[0]["author"] == "2004 Com Poser https://example.org/theme"
    origins = {(row["package"], row["version"], row["link"]) for row in told}
    assert origins == {("game", "1.2-3", "https://example.org/game")}
    [row] = rows_of(tmp_path / "manifest.csv")
    assert row["licence"] == "CC0-1.0 / GPL-3 or CC-BY-3.0"


def test_a_missing_program_or_file_and_a_failing_program_are_told(tmp_path, capsys):
    with pytest.raises(speech.ProgramError, match="no-such-program is not installed"):
        speech.run("no-such-program")
    with pytest.raises(speech.ProgramError, match="ls failed with status"):
        speech.run("ls", "/no/such/folder")
    with pytest.raises(SystemExit, match="2"):
        main(["music", "--hours", "1", "--output", str(tmp_path / "out"), "--soundfont", "no.sf2"])
    assert "no such file: no.sf2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()  # before anything is made
