"""The pages of the manual are true, on real clips or such as are made here."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made_sounds import command, rows_of
from real_audio import RATE, clip_of

from hear_byols.answers.label_files import read_events

DOCS = Path(__file__).parents[2] / "docs"
KINDS = {"fox": 3, "owl": 8, "river": 7}  # dog, rooster and rain of ESC-10, where it is


def write_animals(folder: str, first: int, n: int, is_flat: bool = False) -> None:
    """Owls call, foxes bark, rivers rush: ``n`` clips each, all different."""
    for kind, place in KINDS.items():
        home = Path(folder) if is_flat else Path(folder, kind)
        home.mkdir(parents=True, exist_ok=True)
        for i in range(first, first + n):
            soundfile.write(home / f"{kind}{i}.wav", clip_of(place, i, 1.5), RATE)


def write_night(path: str, labels: str, i: int) -> None:
    """A recording of 6 s with an owl and a fox in it, and their labels as Audacity writes them."""
    samples = 0.01 * np.random.default_rng(i).normal(size=6 * RATE)
    lines = []
    for kind, start in (("owl", 1 + 0.2 * (i % 3)), ("fox", 4 - 0.2 * (i % 2))):
        sound = clip_of(KINDS[kind], i, 0.8)
        samples[round(start * RATE) :][: len(sound)] += sound
        lines.append(f"{start}\t{start + len(sound) / RATE}\t{kind}\n")
    soundfile.write(path, samples, RATE)
    Path(labels).write_text("".join(lines))


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_animals("recordings", 0, 5)
    write_animals("test", 7, 1)
    write_animals("more", 9, 1, is_flat=True)
    for name in ("garden", "garden-labels"):
        Path(name).mkdir()
    for i in range(5):
        write_night(f"garden/g{i}.wav", f"garden-labels/g{i}.txt", i)
    write_night("night.wav", "night.labels", 8)
    names = sorted(path.relative_to("recordings").as_posix() for path in Path("recordings").rglob("*.wav"))
    rows = [f"{name},{name.split('/')[0]},{name[-5]}" for name in names]
    Path("labels-of-recordings.csv").write_text("\n".join(["path,label,group", *rows]))
    return tmp_path


def run_page(name: str) -> dict:
    """Run the blocks of a page in their order, as a reader would."""
    names: dict = {}
    for language, block in re.findall(r"```(bash|python)\n(.*?)```", (DOCS / name).read_text(), re.DOTALL):
        if language == "python":
            exec(block, names)
            continue
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            assert not words or (words[0], command(*words[1:], "-q")) == ("hear-byols", 0), line
    return names


def test_the_page_of_classifiers(home):
    names = run_page("classifiers.md")
    assert names["content"].vectors.shape[0] == 15
    assert list(names["again"].predict(["more/owl9.wav"])) == ["owl"]
    assert names["classifier"].scores["accuracy"] > 0.8
    written = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}
    page = (DOCS / "classifiers.md").read_text()
    promised = set(re.findall(r"^animals\.\S+", page, re.MULTILINE))
    assert promised == {"animals.hbc", *(f"animals.report/{n}.csv" for n in ("confusion", "clips", "failures"))}
    assert promised <= written
    assert len(rows_of(home / "labels.csv")) == 3
    for name in re.findall(r"`(night\.wav\.\w+(?:\.txt)?)`", page):
        assert {event.label for event in read_events(home / "found" / name)} == {"owl", "fox"}, name


def test_the_page_of_search(home):
    Path("recordings").rename("collection")
    shutil.copy("collection/owl/owl0.wav", "owl.wav")
    soundfile.write("collection/copy of river0.ogg", 0.5 * soundfile.read("collection/river/river0.wav")[0], RATE)
    run_page("search.md")
    assert [row["path"].split("/")[0] for row in rows_of(home / "like-owl0.csv")][:2] == ["owl", "owl"]
    copies = {row["path"] for row in rows_of(home / "copies.csv") if row["group"] == "1"}
    assert copies == {"copy of river0.ogg", "river/river0.wav"}
    assert len(rows_of(home / "clusters.csv")) == 16
    assert command("classify", "train", "embedded", "-l", "clusters.csv", "-o", "clusters.hbc", "-q") == 0
