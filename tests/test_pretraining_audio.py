"""Audio for pre-training made by the real programs, and taken from a package by the licences of its files."""

from __future__ import annotations

import csv
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

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.pretraining_audio import debian, music, sounds, speech
from benchmarks.pretraining_audio.__main__ import COLUMNS, main

RATE = 16000
SOUNDFONTS = sorted(Path("/usr/share/sounds/sf2").glob("*.sf2"))
needs_babel = pytest.mark.skipif(not util.find_spec("babel"), reason="needs babel")
needs_espeak = pytest.mark.skipif(not shutil.which("espeak-ng"), reason="needs the system package espeak-ng")
needs_flite = pytest.mark.skipif(not shutil.which("flite"), reason="needs the system package flite")
needs_dpkg = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs the system package dpkg")
needs_fluidsynth = pytest.mark.skipif(
    not (shutil.which("fluidsynth") and SOUNDFONTS and util.find_spec("mido")),
    reason="needs the system packages fluidsynth and fluid-soundfont-gm, and mido",
)
COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Source: https://example.org/game

Files: *
Copyright: 2001 Some One
License: GPL-2+

Files: data/sfx/*
Copyright: 2002 Ann Other
License: CC0-1.0
 A text.

Files: data/sfx/horn.wav
Copyright: 2003 Third Person
License: CC-BY-SA-3.0

Files: data/music/theme.ogg
Copyright: 2004 Com Poser
License: GPL-3 or CC-BY-3.0
Comment: https://example.org/theme
"""


def clips(tar: Path) -> list[np.ndarray]:
    """Clips of a shard, all of which are mono at 16 kHz."""
    with tarfile.open(tar) as shard:
        read = [soundfile.read(io.BytesIO(shard.extractfile(name).read())) for name in sorted(shard.getnames())]
    assert all(rate == RATE and samples.ndim == 1 for samples, rate in read)
    return [samples for samples, _ in read]


def manifest(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as file:
        return {row["shard"]: row for row in csv.DictReader(file)}


def test_a_shard_of_sounds_is_long_enough_varied_and_the_same_for_the_same_seed(tmp_path):
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        main(["sounds", "--hours", "0.003", "--output", str(tmp_path), "--name", name, "--seed", seed])
    made = clips(tmp_path / "a.tar")
    seconds = sum(map(len, made)) / RATE
    assert 10.8 <= seconds < 10.8 + 6
    assert all(0.1 < np.abs(clip).max() <= 1.3 for clip in made)  # Opus overshoots the peak
    assert len({len(clip) for clip in made}) == len(made)
    same, other = clips(tmp_path / "b.tar"), clips(tmp_path / "c.tar")
    assert all(np.array_equal(a, b) for a, b in zip(made, same, strict=True))
    assert not np.array_equal(made[0], other[0])
    rows = manifest(tmp_path)
    assert list(rows) == ["a.tar", "b.tar", "c.tar"]
    assert list(rows["a.tar"]) == COLUMNS
    assert (rows["a.tar"]["clips"], rows["a.tar"]["clean"]) == (str(len(made)), "yes")
    assert float(rows["a.tar"]["hours"]) == pytest.approx(seconds / 3600, abs=6e-4)


def test_every_kind_of_sound_is_finite_audible_and_new_each_time():
    for kind in sounds.KINDS:
        first, second = (sounds.sound(np.random.default_rng(seed), kind, 1.5) for seed in (0, 1))
        for sound in (first, second):
            assert sound.shape == (24000,), kind
            assert np.isfinite(sound).all(), kind
            assert 0.1 <= np.abs(sound).max() <= 0.9, kind
            assert sound.std() > 0.001, kind
        assert np.abs(first - second).max() > 0.05, kind


@needs_babel
@pytest.mark.parametrize(
    "program", [pytest.param("speech", marks=needs_espeak), pytest.param("flite", marks=needs_flite)]
)
def test_programs_speak(tmp_path, program):
    main([program, "--hours", "0.002", "--output", str(tmp_path)])
    made = clips(tmp_path / f"made_{program}.tar")
    assert sum(map(len, made)) >= 7.2 * RATE
    said = manifest(tmp_path)[f"made_{program}.tar"]["version"]
    assert re.fullmatch(r"(espeak-ng|flite) \d+\.\d+.*", said)


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
    played = music.play([(0, flute, [(0.0, 1.8, a4, 100)])], random.Random(0), str(SOUNDFONTS[0]))
    second = played[RATE // 2 : RATE // 2 + RATE]
    assert np.abs(np.fft.rfft(second)).argmax() == pytest.approx(440, abs=10)  # bins of 1 Hz


@needs_fluidsynth
def test_notes_and_music_become_shards(tmp_path):
    for what in ("notes", "music"):
        main([what, "--hours", "0.002", "--output", str(tmp_path), "--soundfont", str(SOUNDFONTS[0])])
        made = clips(tmp_path / f"made_{what}.tar")
        assert sum(map(len, made)) >= 7.2 * RATE
        assert all(len(clip) <= 30 * RATE for clip in made)
        assert SOUNDFONTS[0].name in manifest(tmp_path)[f"made_{what}.tar"]["author"]


@pytest.mark.parametrize(
    ("path", "licence"),
    [
        ("/usr/share/games/game/sfx/bang.wav", "CC0-1.0"),
        ("/usr/share/games/game/sfx/bang.ogg", "CC0-1.0"),  # converted when the package was built
        ("/usr/share/games/game/sfx/horn.wav", "CC-BY-SA-3.0"),
        ("/usr/share/games/game/music/theme.ogg", "GPL-3 or CC-BY-3.0"),
        ("/usr/share/games/game/music/other.ogg", None),
        ("/usr/share/games/game/voice/bang.wav", None),
    ],
)
def test_the_last_stanza_that_names_a_file_counts(path, licence):
    stanzas, link = debian.parsed(COPYRIGHT)
    found = debian.stanza_of(path, stanzas, Counter(("bang", "horn", "theme", "other", "bang")))
    assert (found and found.licence) == licence
    assert link == "https://example.org/game"


def test_a_free_folder_of_one_part_is_not_that_of_another():
    stanzas, _ = debian.parsed("Files: *\nLicense: GPL-2\n\nFiles: mods/doors/sounds/*\nLicense: MIT\n")
    assert debian.stanza_of("/usr/share/mods/doors/sounds/a.ogg", stanzas, Counter("a")).licence == "MIT"
    assert debian.stanza_of("/usr/share/mods/beds/sounds/a.ogg", stanzas, Counter("a")) is None


def test_free_and_other_licences():
    free = ["CC0", "CC-BY-4.0", "CC-BY-3.0-US", "Expat", "GPL-3+ or CC-BY-3.0", "MIT and PD"]
    other = ["CC-BY-SA-3.0", "CC-BY-NC-4.0", "GPL-2+", "CC0 and GPL-2", "BSD-like", "other", ""]
    assert [licence for licence in free + other if debian.Stanza((), licence, "").free] == free


@needs_dpkg
def test_free_files_of_a_package_become_a_shard_with_their_origins(tmp_path):
    root, dice = tmp_path / "game", np.random.default_rng(0)
    for name, seconds in (("sfx/bang.wav", 1), ("sfx/horn.wav", 1), ("sfx/tick.wav", 0.1), ("music/theme.ogg", 40)):
        path = root / "usr/share/games/game" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.repeat(dice.uniform(-1, 1, (int(seconds * 22050), 1)), 2, axis=1), 22050)
    shutil.copy(root / "usr/share/games/game/sfx/bang.wav", root / "usr/share/games/game/sfx/again.wav")
    for path, text in (
        ("usr/share/doc/game/copyright", COPYRIGHT),
        (
            "DEBIAN/control",
            "Package: game\nVersion: 1.2-3\nArchitecture: all\nMaintainer: N <n@example.org>\nDescription: g\n",
        ),
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    subprocess.run(["dpkg-deb", "--build", str(root), str(tmp_path / "game.deb")], check=True, capture_output=True)
    main(["debian", "--output", str(tmp_path), "--name", "free", str(tmp_path / "game.deb")])
    taken = clips(tmp_path / "free.tar")
    assert [len(clip) / RATE for clip in taken] == pytest.approx([30, 30, 1], abs=0.01)
    assert all(0.5 < np.abs(clip).max() < 1.3 for clip in taken)
    with (tmp_path / "free.csv").open(newline="") as file:
        told = list(csv.DictReader(file))
    files = [Path(row["file"]).name for row in told]
    assert files == [
        "theme.ogg",
        "theme.ogg",
        "again.wav",
    ]  # the short, the share-alike and the second of a pair are out
    assert told[0]["author"] == "2004 Com Poser https://example.org/theme"
    assert {(row["package"], row["version"], row["link"]) for row in told} == {
        ("game", "1.2-3", "https://example.org/game")
    }
    assert manifest(tmp_path)["free.tar"]["licence"] == "CC0-1.0 / GPL-3 or CC-BY-3.0"


def test_a_missing_program_and_a_failing_one_are_told():
    with pytest.raises(speech.ProgramError, match="no-such-program is not installed"):
        speech.run("no-such-program")
    with pytest.raises(speech.ProgramError, match="ls failed with status"):
        speech.run("ls", "/no/such/folder")


def test_a_missing_file_is_told_before_anything_is_made(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["music", "--hours", "1", "--output", str(tmp_path / "out"), "--soundfont", "no.sf2"])
    assert "no such file: no.sf2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
