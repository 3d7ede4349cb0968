"""A researcher's folder: 153 files of five formats, of which two cannot be read, from vectors to answers."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
from made_sounds import rows_of
from real_audio import RATE, labelled_clips

from hear_byols import read_embeddings
from hear_byols.cli.main import main

BAD = {"broken.wav", "empty.flac"}


def write_m4a(path: Path, samples: np.ndarray) -> None:
    """AAC in MP4, as telephones record it."""
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """150 clips, 30 of each format, in ten folders; a broken and an empty file; a copy with a name of its own."""
    pytest.importorskip("av", reason='needs pip install "hear_byols[formats]"')
    home = tmp_path_factory.mktemp("researcher")
    for i, (label, samples) in enumerate(labelled_clips(150, 0.8)):
        suffix = ("wav", "flac", "mp3", "opus", "m4a")[(i // 10) % 5]
        path = home / "recordings" / label / f"{i:03}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == "m4a":
            write_m4a(path, samples)
        elif suffix == "opus":
            soundfile.write(path, samples, RATE, format="OGG", subtype="OPUS")
        else:
            soundfile.write(path, np.stack([samples] * (1 + i % 2), 1), RATE)
    first = min((home / "recordings").iterdir())
    shutil.copy(max(first.glob("*.wav")), first / "Kopie für später.wav")
    (first / "broken.wav").write_bytes(b"RIFF no more")
    (first / "empty.flac").write_bytes(b"")
    assert main(["embed", str(home / "recordings"), "-o", str(home / "embedded"), "-m", "cnn_hybrid", "-q"]) == 1
    return home


def names_of(home):
    paths = (path for path in (home / "recordings").rglob("*") if path.is_file())
    return {path.relative_to(home / "recordings").as_posix() for path in paths}


def test_a_classifier_comes_of_it_and_every_file_is_accounted_for(home, capsys):
    content = read_embeddings(home / "embedded")
    failed = {each["name"] for each in content.failed}
    assert (len(names_of(home)), len(content)) == (153, 151)
    assert {Path(name).name for name in failed} == BAD
    assert set(content.names) | failed == names_of(home)
    assert all(each["reason"] for each in content.failed)
    assert main(["classify", "train", str(home / "embedded"), "-o", str(home / "a.hbc")]) == 1
    captured = capsys.readouterr()
    assert all(name in captured.err for name in BAD)
    # Of ten classes, from less than a second of each clip.
    assert float(re.search(r"accuracy ([\d.]+)%", captured.out)[1]) > 50
    tables = [rows_of(home / "a.report" / name) for name in ("clips.csv", "failures.csv")]
    assert {row["path"] for rows in tables for row in rows} == names_of(home)
    some = min((home / "recordings").iterdir())
    assert main(["classify", "predict", str(home / "a.hbc"), str(some), "-o", str(home / "a.csv"), "-q"]) == 1
    rows = rows_of(home / "a.csv")
    assert {row["path"] for row in rows} == {path.name for path in some.iterdir()}
    assert {row["path"] for row in rows if row["error"]} == BAD


def test_the_copy_is_found_and_next_to_its_original(home, capsys):
    assert main(["duplicates", str(home / "embedded"), "-o", str(home / "copies.csv"), "-q"]) == 0
    rows = rows_of(home / "copies.csv")
    (copy,) = (row for row in rows if "Kopie" in row["path"])
    (other,) = (row for row in rows if row["group"] == copy["group"] and row != copy)
    assert main(["search", str(home / "embedded"), copy["path"], "-n", "1"]) == 0
    assert other["path"] in capsys.readouterr().out


def test_the_map_knows_where_every_sound_lies(home):
    assert main(["map", "--audio", str(home / "embedded"), "-o", str(home / "maps" / "map.html"), "-q"]) == 1
    page = (home / "maps" / "map.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert len(data["points"]) == len(data["sounds"]) == 151
    assert len(data["classes"]) == 10
    assert all((home / "maps" / unquote(sound)).is_file() for sound in data["sounds"])
