"""Maps: labels from three sources, marks that can be told apart, pages that keep strange names harmless."""

import json
import re
import sys
from functools import partial
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from extraction import write_corpus
from made_sounds import command
from task_folders import scene_task, write_task

from hear_byols import embed_files, embed_to_folder, read_embeddings
from hear_byols.analysis.figures import save_figure
from hear_byols.analysis.maps import COLOURS, NO_LABEL, Projection, draw_map, make_map_data, project
from hear_byols.answers.labels import audio_folder, find_labels
from hear_byols.answers.map_page import make_page
from hear_byols.answers.mapping import map_folder
from hear_byols.errors import InputError, OptionError, TaskError
from hear_byols.extraction.files import AudioFile, collect

pytestmark = pytest.mark.usefixtures("one_thread")

MODEL = "random_cnn"
HOSTILE = ["</script><script>alert(1)</script>", "<img src='x' onerror='alert(1)'>", "<!-- <script ", "{{data}}"]
HOSTILE += ["$\\frac{$", "$x^2$ & 'y'", "_hidden"]  # two of matplotlib's formulas, one of them wrong; a hidden label


@pytest.fixture
def corpus(tmp_path):
    """Eight clips in the folders a and b."""
    write_corpus(tmp_path / "audio", 8)
    return tmp_path / "audio"


@pytest.fixture
def task(tmp_path) -> Path:
    """A HEAR scene task with a clip of each of three labels in every split, at 16 kHz and, in name, at 48 kHz."""
    folder = scene_task(tmp_path, n=1)
    (folder / "48000").mkdir()
    return folder


def audio_files(*names: str) -> list[AudioFile]:
    return [AudioFile(name, Path("audio") / name) for name in names]


def test_without_labels_the_first_folder_is_the_label():
    assert find_labels(audio_files("a/deep/0.flac", "b/3.flac", "1.wav")) == ["a", "b", None]


def test_labels_of_a_table(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text('\ufefflabel,more,file\nloud,1,a/0.flac\n"cat, big",2,./b/1.wav\ndog,3,a/0.flac\n')
    assert find_labels(audio_files("a/0.flac", "b/1.wav", "c.wav"), table) == ["dog + loud", "cat, big", None]


def test_labels_of_a_task_hold_for_its_audio_wherever_it_lies(task, tmp_path):
    (tmp_path / "copy").mkdir()
    (task / "16000" / "test").rename(tmp_path / "copy" / "test")
    assert find_labels(collect([task / "16000" / "train"]), task) == ["high", "low", "mid"]
    assert find_labels(collect([tmp_path / "copy"]), task) == ["high", "low", "mid"]
    assert audio_folder(task, 48000) == audio_folder(task, 32000) == task / "48000"
    assert audio_folder(tmp_path / "copy", 16000) == tmp_path / "copy"


def test_what_gives_no_labels_is_named(task, tmp_path):
    for name, content in (
        ("columns.csv", b"name,class\na,b\n"),
        ("empty.csv", b""),
        ("others.csv", b"file,label\nelse.wav,dog\n"),
        ("bytes.csv", b"file,label\n\xff\xfe,dog\n"),
    ):
        (tmp_path / name).write_bytes(content)
    write_task(tmp_path / "events", {"train": {}, "valid": {}, "test": {}}, ["x"], embedding_type="event")
    (task / "train.json").write_text("[]")
    (tmp_path / "audio").mkdir()
    for name, message in (
        ("none.csv", r"no such file; labels are a table \(CSV\) or a HEAR task folder"),
        ("columns.csv", "must name the columns path and label; it holds name, class"),
        ("empty.csv", "it holds nothing"),
        ("others.csv", "labels 1 files, none of them among the 2 .* 'else.wav', the audio of 'a.wav'"),
        ("bytes.csv", "cannot be read as a table"),
        ("audio", r"no task_metadata\.json"),
        ("events", "embedding_type is 'event'"),
        (task.name, r"train\.json must hold a JSON object"),
    ):
        with pytest.raises((OptionError, TaskError), match=message):
            find_labels(audio_files("a.wav", "b.wav"), tmp_path / name)


def test_pca_finds_the_plane_that_holds_the_variance():
    rng = np.random.default_rng(0)
    plane = rng.standard_normal((60, 2)) * [3, 1]
    vectors = plane @ rng.standard_normal((2, 30)) + 1e-3 * rng.standard_normal((60, 30))
    projection = project(vectors * np.linspace(1, 100, 30) + 5)  # the components' own scales do not count
    shares = [float(re.search(r"([\d.]+)%", axis)[1]) for axis in projection.axes]
    assert sum(shares) == pytest.approx(100, abs=0.2)
    assert shares[0] > shares[1]
    standard = vectors / vectors.std(0)
    distances = np.linalg.norm(standard[:, None] - standard, axis=2)
    on_the_map = np.linalg.norm(projection.points[:, None] - projection.points, axis=2)
    assert on_the_map == pytest.approx(distances, abs=0.1)


def test_constant_components_and_equal_files_do_no_harm():
    vectors = np.random.default_rng(0).standard_normal((5, 4))
    vectors[:, 2] = 0
    assert np.isfinite(project(vectors).points).all()
    for given, method, message in (
        (np.ones((5, 4)), "pca", "all 5 embeddings are equal"),
        (vectors[:2], "pca", "pca map needs at least 3 files that can be embedded, got 2"),
        (vectors, "tsne", "method must be one of pca, umap"),
    ):
        with pytest.raises((InputError, OptionError), match=message):
            project(given, method)


def test_umap_keeps_neighbours_together_and_repeats():
    pytest.importorskip("umap", reason="the extra umap is not installed")  # most of this test is its compiler
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((40, 10)) + 20 * (np.arange(40) % 2)[:, None]
    projection = project(vectors, "umap", seed=1)
    assert projection.axes == ("UMAP 1", "UMAP 2")
    even, odd = projection.points[::2], projection.points[1::2]
    within = max(np.ptp(points, axis=0).max() for points in (even, odd))
    assert np.linalg.norm(even.mean(0) - odd.mean(0)) > within
    assert np.array_equal(project(vectors, "umap", seed=1).points, projection.points)
    assert project(vectors[:5], "umap").points.shape == (5, 2)
    with pytest.raises(InputError, match="umap map needs at least 5 files"):
        project(vectors[:4], "umap")


def map_of(labels: list[str | None], title: str = "title"):
    points = np.random.default_rng(0).standard_normal((len(labels), 2))
    names = [f"{label}.wav" for label in labels]
    return make_map_data(title, Projection(points, ("one", "two")), names, labels)


def test_up_to_140_labels_have_marks_of_their_own_and_neighbours_differ_twice():
    classes = map_of([str(i) for i in range(140)]).classes
    assert len({(each.colour, each.shape) for each in classes}) == len(classes) == 140
    assert all(one.colour != other.colour and one.shape != other.shape for one, other in pairwise(classes))
    mixed = map_of(["b10", "10", "b9", "9", "a"]).classes  # numbers sort as numbers
    assert [each.label for each in mixed] == ["9", "10", "a", "b9", "b10"]


# Machado, Oliveira and Fernandes 2009, severity 1; OKLab of Ottosson 2020.
_BLIND = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
    "none": np.eye(3),
}
_LMS = [[0.41222147, 0.53633254, 0.05144599], [0.2119035, 0.68069955, 0.10739696], [0.08830246, 0.28171884, 0.6299787]]
_LAB = [[0.21045426, 0.7936178, -0.00407205], [1.9779985, -2.42859221, 0.45059371]]
_LAB += [[0.02590404, 0.78277177, -0.80867577]]


@pytest.mark.parametrize("kind", _BLIND)
def test_twenty_colours_are_told_apart_by_all_eyes(kind):
    values = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in COLOURS]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    seen = (linear @ np.transpose(_BLIND[kind])).clip(0, 1)
    lab = np.cbrt(seen @ np.transpose(_LMS)) @ np.transpose(_LAB)
    distances = np.linalg.norm(lab[:, None] - lab, axis=-1) + np.eye(20)
    assert distances.min() > 0.075


def test_the_rarest_labels_and_files_without_label_are_grey():
    labels = [label for i in range(140) for label in (f"often {i}",) * 2] + ["rare 1", "rare 2", None]
    content = map_of(labels)
    rest = [("(2 rarer labels)", (280, 281)), (NO_LABEL, (282,))]
    assert [(each.label, each.places) for each in content.classes[140:]] == rest
    assert {each.colour for each in content.classes[140:]}.isdisjoint(COLOURS)
    assert sorted(place for each in content.classes for place in each.places) == list(range(283))
    assert content.labels[280] == "rare 1"


class Page(HTMLParser):
    """A page as a browser takes it apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: dict[str, str] = {}
        self.feed(text)
        self.data = json.loads(self.texts["data"])

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        name = self.tags[-1][1].get("id") or self.tags[-1][0] if self.tags else ""
        self.texts[name] = self.texts.get(name, "") + data


def test_a_page_holds_every_file_and_reaches_for_nothing_outside():
    content = map_of(["a", "b", None, "a"])
    text = make_page(content, Path())
    page = Page(text)
    points = page.data["points"]
    wanted = [["a.wav", "a"], ["b.wav", "b"], ["None.wav", NO_LABEL], ["a.wav", "a"]]
    assert [point[3:] for point in points] == wanted
    assert np.array([point[:2] for point in points]) == pytest.approx(content.projection.points, abs=1e-5)
    assert [page.data["classes"][point[2]][0] for point in points] == list(content.labels)
    assert page.data["axes"] == ["one", "two"]
    assert not {"src", "href"} & {name for _, attributes in page.tags for name in attributes}
    assert set(re.findall(r"https?://[^\"']*", text)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert "default-src 'none'" in text


def test_strange_names_stay_text():
    names = [*HOSTILE, "bad\udcff.wav", "line\u2028break"]
    quiet, hostile = map_of(["a"] * len(names)), map_of(names, title=HOSTILE[0])
    page = Page(make_page(hostile, Path()))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in Page(make_page(quiet, Path())).tags]
    assert page.texts["h1"].strip() == page.texts["title"].strip() == HOSTILE[0]
    assert not set("<>&") & set(page.texts["data"])
    assert [point[4] for point in page.data["points"]] == [*HOSTILE, "bad?.wav", "line\u2028break"]
    assert ".innerHTML" not in make_page(quiet, Path())


def test_strange_names_in_a_picture(tmp_path):
    figure = draw_map(map_of([*HOSTILE, "a" * 100, None], title="$\\frac{$"))
    save_figure(figure, tmp_path / "map.png")
    texts = figure.legends[0].get_texts()
    shown = [text.get_text() for text in texts]
    assert shown[-1] == NO_LABEL
    assert {"_hidden", "$x^2$ & 'y'"} < set(shown)
    assert not any(text.get_parse_math() for text in texts)
    assert max(map(len, shown)) == 28


def test_the_command_maps_a_task_and_reports_bad_files(task, tmp_path, capsys):
    (task / "16000" / "test" / "bad.wav").write_bytes(b"no audio")
    output = tmp_path / "new" / "map.HTML"
    assert command("map", MODEL, "--audio", task, "--output", output, "--device", "cpu", "--quiet") == 1
    assert "not embedded: test/bad.wav: " in capsys.readouterr().err
    points = Page(output.read_text()).data["points"]
    assert [point[4] for point in points] == ["high", "low", "mid"] * 3
    expected = project(embed_files(sorted((task / "16000").rglob("*0.wav")), MODEL)).points
    assert np.array([point[:2] for point in points]) == pytest.approx(expected, abs=1e-3)
    assert [path.name for path in output.parent.iterdir()] == ["map.HTML"]


def test_the_command_draws_a_picture_and_its_errors_come_before_anything_is_embedded(corpus, monkeypatch, capsys):
    monkeypatch.chdir(corpus.parent)
    draw = partial(command, "map", MODEL, "--device", "cpu", "--audio", "audio", "--output", "map.png")
    assert draw() == 0
    assert Path("map.png").read_bytes().startswith(b"\x89PNG")
    assert "mapped 8 points; wrote map.png" in capsys.readouterr().err
    Path("map.png").unlink()
    monkeypatch.setitem(sys.modules, "umap", None)
    monkeypatch.setattr("hear_byols.answers.mapping.embed_to_folder", lambda *args, **kwargs: pytest.fail("embedded"))
    for arguments, message in (
        (["--output", "map.gif"], "must end in .html, .png, .pdf, .svg; got 'map.gif'"),
        (["--output", "audio/a/clip00.flac/map.png"], "cannot be made"),
        (["--labels", "none.csv"], "none.csv: no such file"),
        (["--audio", "none"], "none is not a folder"),
        (["--method", "umap"], 'pip install "hear_byols[map]"'),
    ):
        assert draw(*arguments) == 2
        assert message in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["audio"]


def test_an_embed_folder_is_mapped_without_embedding_again(corpus, tmp_path):
    embed_to_folder([corpus], tmp_path / "embedded", model=MODEL)
    by_audio, by_folder, labels = tmp_path / "a.html", tmp_path / "b.html", tmp_path / "labels.csv"
    map_folder(MODEL, corpus, by_audio, title="t")
    for path in corpus.rglob("*.*"):
        path.unlink()
    assert map_folder("", tmp_path / "embedded", by_folder, title="t").n_points == 8
    assert by_folder.read_text() == by_audio.read_text()
    labels.write_text("path,rank,label\na/clip00.flac,1,'=cluster\nb/clip01.wav,1,'=cluster\n")
    map_folder(MODEL, tmp_path / "embedded", by_folder, labels=labels)
    assert '"=cluster"' in by_folder.read_text()
    with pytest.raises(OptionError, match="another model"):
        map_folder("random_clstm", tmp_path / "embedded", by_folder)


def test_windows_are_points_that_play_their_stretch(corpus, tmp_path):
    embed_to_folder([corpus], tmp_path / "embedded", model=MODEL, timestamps=True, frame_ms=400, hop_ms=200)
    output = tmp_path / "page" / "map.html"
    assert command("map", "--audio", tmp_path / "embedded", "-o", output, "--clusters", 3, "-q") == 0
    data = Page(output.read_text()).data
    assert [each[0] for each in data["classes"]] == ["cluster 1", "cluster 2", "cluster 3"]
    content = read_embeddings(tmp_path / "embedded")
    assert [point[3] for point in data["points"]] == list(content.names)
    for (*_, name, _, sound, start, end), time in zip(data["points"], content.times_ms, strict=True):
        assert (output.parent / data["sounds"][sound]).resolve() == corpus / name
        assert [start, end] == pytest.approx([max(0, time / 1000 - 0.2), time / 1000 + 0.2])
    with pytest.raises(OptionError, match="in place of labels"):
        map_folder("", tmp_path / "embedded", output, clusters=3, labels="x.csv")
