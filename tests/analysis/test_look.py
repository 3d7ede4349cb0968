"""One file in pictures: what stands at which time, and the files of all lengths that it is for."""

import os
import sys

import numpy as np
import pytest
import soundfile
import torch
from extraction import noise

from hear_byols import load_model
from hear_byols.analysis.look import band_ticks, draw_view, thin
from hear_byols.analysis.view import MAX_WINDOWS, choose_framing, view_of
from hear_byols.cli.main import main
from hear_byols.config import FrontendConfig
from hear_byols.errors import OptionError
from hear_byols.frontend import LogMel

pytestmark = pytest.mark.usefixtures("one_thread")

MODEL = "random_cnn"


def two_sounds() -> np.ndarray:
    """A low tone of a second, and a high one."""
    time = np.arange(32000) / 16000
    return (0.3 * np.sin(2 * np.pi * np.where(time < 1, 300, 3000) * time)).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    return load_model(MODEL, frame_ms=250, hop_ms=25)


@pytest.fixture(scope="module")
def view(model):
    return view_of(model, two_sounds(), "two.wav")


def test_change_compares_windows_that_adjoin_and_peaks_where_the_sound_changes(view):
    assert view.seconds == 2
    assert view.times == pytest.approx(np.arange(81) * 0.025)
    assert view.times[np.nanargmax(view.change)] == pytest.approx(1, abs=0.05)
    assert view.change[10:71] == pytest.approx([1 - view.similarity[i - 5, i + 5] for i in range(10, 71)])
    assert np.isnan(view.change).tolist() == [True] * 10 + [False] * 61 + [True] * 10
    assert view.inside.tolist() == [False] * 5 + [True] * 71 + [False] * 5


def test_similarity_is_the_cosine_of_the_embeddings(view, model):
    vectors, _ = model.timestamp_embeddings(torch.from_numpy(two_sounds())[None])
    for i, j in [(0, 0), (20, 60), (5, 75)]:
        expected = torch.nn.functional.cosine_similarity(vectors[0, i], vectors[0, j], dim=0)
        assert view.similarity[i, j] == pytest.approx(float(expected), abs=1e-5)
    assert np.diag(view.similarity) == pytest.approx(1, abs=1e-5)


def test_framing_by_length_and_as_asked():
    for seconds, framing in (
        (0.01, (250, 12.5)),
        (1, (250, 12.5)),
        (5, (500, 25)),
        (10, (1000, 50)),
        (59, (1000, 50)),
        (100, (1000, 100)),
        (600, (1000, 1000)),
        (7200, (1000, 10000)),
    ):
        assert choose_framing(seconds) == framing
        assert seconds * 1000 / framing[1] + 1 <= MAX_WINDOWS
    assert choose_framing(20, 500) == (500, 25)
    assert choose_framing(20, 500, 40) == (500, 40)
    for hop in (10, 0, -1, float("nan")):
        with pytest.raises(OptionError, match=r"hop_ms must be at least 16\.7 for 20\.0 s, .* at most 1200"):
            choose_framing(20, 500, hop)


def test_all_panels_share_the_time_axis(view):
    figure = draw_view(view, MODEL)
    waveform, spectrogram, change, similarity = figure.axes[:4]
    assert {axes.get_xlim() for axes in figure.axes[:4]} == {(0, 2)}
    assert similarity.get_ylim() == (2, 0)
    figure.draw_without_rendering()
    edges = {(round(axes.get_position().x0, 6), round(axes.get_position().x1, 6)) for axes in figure.axes[:4]}
    assert len(edges) == 1
    # The first frame is centred at 0, the last at 2 s; windows likewise.
    assert spectrogram.images[0].get_extent() == pytest.approx([-0.005, 2.005, -0.5, 63.5])
    assert similarity.images[0].get_extent() == pytest.approx([-0.0125, 2.0125, 2.0125, -0.0125])
    assert change.lines[0].get_xdata() == pytest.approx(view.times)
    assert waveform.get_ylabel() == "amplitude"


def test_hertz_stand_where_a_tone_is_loudest():
    config = FrontendConfig()
    places, names = band_ticks(config)
    assert names == ["100", "500", "1 000", "2 000", "5 000"]
    for hz, name in ((500, "500"), (1000, "1 000"), (5000, "5 000")):
        tone = torch.sin(2 * torch.pi * hz * torch.arange(8000) / 16000)
        loudest = LogMel(config)(tone[None])[0, :, 20].argmax()
        assert places[names.index(name)] == pytest.approx(float(loudest), abs=0.75)


def test_thinning_loses_no_peak():
    samples = np.zeros(100_003, np.float32)
    samples[[7, 99_999]] = 0.9, -0.8
    frames = np.stack([samples, -samples])
    high = thin(frames, 1000)
    assert high.shape == (2, 1000)
    assert high.argmax(1).tolist() == [0, 999]
    assert high.max(1).tolist() == [np.float32(0.9), np.float32(0.8)]
    assert np.array_equal(thin(frames, 1000, np.minimum), -high[::-1])
    assert thin(samples[:10], 1000).tolist() == samples[:10].tolist()


def test_the_shortest_file_silence_concatenations_and_names_that_are_no_utf_8_are_drawn(tmp_path, capsys):
    short, silence = tmp_path / "short.wav", tmp_path / os.fsdecode(b"x" * 200 + b"\xff $a.wav")
    soundfile.write(short, noise(1 / 16000, seed=0), 16000)
    assert main(["look", MODEL, str(short), "--output", str(tmp_path / "new/look.png")]) == 0
    assert (tmp_path / "new/look.png").read_bytes().startswith(b"\x89PNG")
    assert "every 12.5 ms; wrote" in capsys.readouterr().err
    with open(silence, "wb") as file:
        soundfile.write(file, np.zeros(8000), 16000, format="WAV")
    options = ["--output", str(tmp_path / "look.svg"), "--hop-ms", "100", "--quiet"]
    assert main(["look", f"{MODEL}+random_cvt", str(silence), *options]) == 0
    assert (tmp_path / "look.svg").stat().st_size > 10_000


def test_matplotlib_is_asked_for_where_it_is_not_installed(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for arguments in (["look", MODEL, "x.wav"], ["cka", MODEL, MODEL, "--audio", "."], ["map", MODEL, "--audio", "."]):
        assert main([*arguments, "--output", str(tmp_path / "picture.png")]) == 2
        error = capsys.readouterr().err
        assert "needs matplotlib" in error
        assert 'pip install "hear_byols[analysis]"' in error


def test_one_clear_error_comes_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    soundfile.write("good.wav", noise(0.2, seed=0), 16000)
    for command, message in (
        ("look random_cnn none.wav -o look.png", "none.wav: no such file"),
        ("look random_cnn bad.wav -o look.png", "bad.wav: cannot be read as audio"),
        ("look random_cnn good.wav -o look.txt", "must end in .png, .pdf, .svg; got 'look.txt'"),
        ("look random_cnn good.wav -o look.png --hop-ms 0", "hop_ms must be at least"),
        ("look random_cnn good.wav -o look.png --frame-ms 20", "frame_ms must be at least"),
        ("cka random_cnn random_cvt -o cka.jpeg --audio good.wav", "must end in .png, .pdf, .svg; got 'cka.jpeg'"),
        ("cka random_cnn nobody -o cka.png --audio good.wav", "nobody"),
        (
            "cka random_cnn random_cnn+random_cvt -o cka.png --audio good.wav --window-ms 50",
            "ConcatenatedModel has no encoder whose layers",
        ),
    ):
        assert main([*command.split(), "--device", "cpu"]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.wav", "good.wav"]
