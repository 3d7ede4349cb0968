"""ONNX files: the model's own embeddings with onnxruntime and numpy alone, for any number and length of clips.

Files of timestamps compute the columns that windows share once.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from real_audio import clip_of
from untrained import assert_same, make_model, noise

pytest.importorskip("onnxscript", reason='needs pip install "hear_byols[onnx]"')
pytest.importorskip("onnxruntime", reason='needs pip install "hear_byols[onnx]"')

import hear_byols
from hear_byols.cli.main import main
from hear_byols.errors import MissingDependencyError, OptionError, OutputError
from hear_byols.model import EmbeddingModel
from hear_byols.onnx import export as exporting
from hear_byols.onnx import graph as graphs
from hear_byols.onnx.export import INT8_TOLERANCE, compare, export_onnx, metadata, open_session, quantize
from hear_byols.onnx.graph import ConvolvedLogMel, TimestampGraph

pytestmark = pytest.mark.usefixtures("one_thread")
DOCS = Path(__file__).parents[1] / "docs" / "deploying.md"
TIMESTAMPS = DOCS.parents[1] / "examples" / "onnx_timestamps.py"


def export(folder: Path, model: EmbeddingModel, timestamps: bool = False) -> SimpleNamespace:
    """A model and its file, which takes the exporter seconds, so that tests share it."""
    return SimpleNamespace(model=model, path=export_onnx(model, folder / "model.onnx", timestamps=timestamps).path)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    provenance = {"name": "untrained", "licence": "CC0"}
    return export(tmp_path_factory.mktemp("scene"), make_model("dataset", provenance=provenance))


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    """Windows and hops that are no whole numbers of spectrogram frames, nor the hop of samples."""
    model = make_model("clip", frame_ms=123.4, hop_ms=12.03125)
    return export(tmp_path_factory.mktemp("windows"), model, timestamps=True)


@pytest.fixture(scope="module")
def sharing(tmp_path_factory):
    return export(tmp_path_factory.mktemp("sharing"), make_model("clip", "multi"), timestamps=True)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    return export(tmp_path_factory.mktemp("shipped"), hear_byols.load_model("cvt_hybrid"))


# What comes out is what the model gives


@pytest.mark.parametrize("exported", ["scene", "shipped", ("multi", "resnetish34"), ("last", "clstm")])
def test_any_number_and_length_of_clips_gives_the_models_vectors(request, tmp_path, exported):
    if isinstance(exported, str):
        exported = request.getfixturevalue(exported)
    else:
        exported = export(tmp_path, make_model("halfway", *exported))
    session, time = open_session(exported.path, threads=1), torch.arange(16000) / 16000
    shapes = [(1, 1), (3, 799), (1, 1600), (2, 1601), (1, 15999), (4, 16000), (1, 52345)]
    square = torch.sign(torch.sin(2 * torch.pi * 200 * time))
    signals = [torch.zeros(16000), 0.9 * torch.sin(2 * torch.pi * 1000 * time), torch.eye(1, 16000)[0], square]
    recordings = [torch.from_numpy(clip_of(kind, 0, 1.3))[None] for kind in range(5)]
    for audio in [*(noise(*shape) for shape in shapes), torch.stack(signals), *recordings]:
        (got,) = session.run(["embedding"], {"waveform": audio.numpy()})
        assert_same(torch.from_numpy(got), exported.model.scene_embeddings(audio))


@pytest.mark.parametrize("name", ["windows", "sharing"])
def test_timestamps_too(request, name):
    """Of clips whose own statistics differ, too: silence, and a loud one."""
    exported = request.getfixturevalue(name)
    session = open_session(exported.path, threads=1)
    unlike = torch.stack([torch.zeros(4000), 10 * noise(1, 4000)[0], noise(1, 4000)[0]])
    shapes = [(1, 1), (2, 799), (2, 800), (1, 1603), (3, 16001), (1, 30303)]
    for audio in [unlike, *(noise(*shape) for shape in shapes)]:
        vectors, times = session.run(["embeddings", "times_ms"], {"waveform": audio.numpy()})
        wanted, wanted_times = exported.model.timestamp_embeddings(audio)
        for row, expected in zip(torch.from_numpy(vectors), wanted, strict=True):
            assert_same(row, expected)
        np.testing.assert_array_equal(times, wanted_times.numpy())


# Windows share columns


def assert_followed(model: EmbeddingModel, audio: torch.Tensor) -> None:
    """What the exporter follows gives the model's vectors; without the exporter's seconds."""
    with torch.no_grad():
        assert_same(TimestampGraph(model)(audio)[0], model.timestamp_embeddings(audio)[0], 1e-5)


@settings(max_examples=25, deadline=None)
@given(
    frame_ms=st.floats(85, 1100),
    hop_ms=st.sampled_from([7, 10, 12.5, 20, 25, 30, 33.3125, 40, 50, 80, 700]),  # a column is 80
    n_samples=st.integers(1, 14000),
    n_clips=st.integers(1, 2),
    mode=st.sampled_from(["dataset", "clip", "halfway"]),
    layers=st.sampled_from(["last", "multi", "heads"]),
)
def test_any_windows_equal_the_models(frame_ms, hop_ms, n_samples, n_clips, mode, layers):
    assert_followed(make_model(mode, layers, frame_ms=frame_ms, hop_ms=hop_ms), noise(n_clips, n_samples))


@pytest.mark.parametrize(("layers", "frame_ms", "hop_ms"), [("last", 500, 50), ("multi", 523.7, 40)])
def test_an_lstm_reads_shared_columns(layers, frame_ms, hop_ms):
    model = make_model("clip", layers, "clstm", frame_ms=frame_ms, hop_ms=hop_ms)
    assert TimestampGraph(model).shares_columns
    assert_followed(model, noise(2, 6001))


@pytest.mark.parametrize("hop_ms", [10, 50])
def test_a_distinct_frame_or_column_is_computed_once(hop_ms):
    """At a window of 1 s 9 of 12 columns depend on the signal alone; a hundred such begin in a second."""
    graph, n_columns, n_frames = TimestampGraph(make_model(hop_ms=hop_ms)), [], []
    last = graph.get_submodule("encoder.fc2")
    last.register_forward_hook(lambda module, inputs, output: n_columns.append(output.shape[0]))
    graph.log_mel.register_forward_hook(lambda module, inputs, output: n_frames.append(output[:, 0].numel()))
    with torch.no_grad():
        graph(noise(1, 80000))
    n_windows, n_own, n_shared = 5000 // hop_ms + 1, 3, 500 + 9 * 8
    assert sum(n_columns) <= n_windows * n_own + n_shared
    assert sum(n_frames) <= n_windows * 4 + 600


@pytest.mark.parametrize(("encoder", "hop_ms"), [("cnn", 330), ("cnn", 33.3125), ("cvt", 50)])
def test_windows_that_share_too_little_go_whole(encoder, hop_ms, monkeypatch):
    monkeypatch.setattr(graphs, "embed_windows", None)
    assert_followed(make_model(encoder=encoder, hop_ms=hop_ms), noise(1, 8000))


def test_the_convolved_spectrogram_is_at_least_as_exact_as_the_models():
    log_mel = make_model("clip").log_mel
    time = torch.arange(16000, dtype=torch.float64) / 16000
    audio = (0.9 * torch.sin(2 * torch.pi * 1000 * time)).float()[None]
    extended = torch.nn.functional.pad(audio[:, None], (200, 200), mode="reflect")[:, 0]
    segments = extended.double().unfold(1, 400, 160) * log_mel.window.double()
    power = torch.fft.rfft(segments, n=1024).abs().square() @ log_mel.bank.double()
    exact = torch.log(power + torch.finfo(torch.float32).eps).transpose(1, 2)
    assert (ConvolvedLogMel(log_mel)(extended) - exact).abs().max() <= (log_mel(audio) - exact).abs().max()


# Without torch


def test_the_documented_programs_run_where_torch_cannot_be_imported(tmp_path, scene):
    model = scene.model
    (tmp_path / "model.onnx").write_bytes(scene.path.read_bytes())
    soundfile.write(tmp_path / "speech.wav", noise(1, 40001)[0].numpy(), 16000, subtype="PCM_16")
    blocks = re.findall(
        r"```python\n(.*?)```", DOCS.read_text().partition("## ONNX")[2].partition("## Streaming")[0], re.DOTALL
    )
    program = "\n".join(
        [
            "import sys",
            "for name in ('torch', 'torchaudio', 'hear_byols', 'onnx', 'onnxscript', 'soundfile', 'scipy'):",
            "    sys.modules[name] = None",  # importing it raises
            *blocks,
            TIMESTAMPS.read_text(),
            "vectors, times = timestamps(session, waveform, int(about['sample_rate']))",
            "np.savez('result.npz', embedding=embedding, vectors=vectors, times=times)",
        ]
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = np.load(tmp_path / "result.npz")
    audio = torch.from_numpy(hear_byols.load_audio(tmp_path / "speech.wav"))[None]
    windows, times = model.timestamp_embeddings(audio)
    assert_same(torch.from_numpy(result["embedding"]), model.scene_embeddings(audio))
    assert_same(torch.from_numpy(result["vectors"]), windows[0])
    np.testing.assert_array_equal(result["times"], times[0].numpy())


def test_the_file_says_what_it_is(scene, windows):
    about = open_session(scene.path).get_modelmeta().custom_metadata_map
    assert json.loads(about.pop("config")) == scene.model.config.to_dict()
    assert json.loads(about.pop("provenance")) == scene.model.provenance
    expected = {"kind": "scene", "sample_rate": "16000", "embedding_size": "32", "normalization": "dataset"}
    assert about == {**expected, "licence": "CC0", "hear_byols": hear_byols.__version__}
    (waveform,) = open_session(scene.path).get_inputs()
    assert (waveform.name, waveform.shape, waveform.type) == ("waveform", ["batch", "n_samples"], "tensor(float)")
    about = open_session(windows.path).get_modelmeta().custom_metadata_map
    assert (about["kind"], float(about["frame_ms"]), float(about["hop_ms"])) == ("timestamps", 123.4, 12.03125)


# The check and the command


def test_the_check_sees_a_file_of_other_weights_or_windows(scene, windows):
    assert compare(scene.model, scene.path, timestamps=False) < 1e-5
    other = make_model("dataset")
    with torch.no_grad():
        other.encoder.fc2.bias += 0.01
    assert compare(other, scene.path, timestamps=False) > 1e-4
    other = make_model("clip", frame_ms=123.4, hop_ms=12)
    assert compare(other, windows.path, timestamps=True) == float("inf")


def test_a_file_that_fails_its_check_is_not_written(tmp_path, scene, monkeypatch):
    (tmp_path / "model.onnx").write_text("the old one")
    monkeypatch.setattr(exporting, "TOLERANCE", 0)
    with pytest.raises(OutputError, match="deviates from the model by"):
        export_onnx(scene.model, tmp_path / "model.onnx", check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert (tmp_path / "model.onnx").read_text() == "the old one"


def test_export_on_the_command_line(tmp_path, capsys):
    checkpoint, file = tmp_path / "mine.pth", tmp_path / "out" / "model.onnx"
    model = make_model("dataset")
    hear_byols.save_checkpoint(checkpoint, model.config, model.encoder.state_dict(), model.provenance)
    assert main(["export", str(checkpoint), "-o", str(file), "--timestamps", "--hop-ms", "100", "--check"]) == 0
    told = rf"{re.escape(str(file))}: \d+\.\d MB, within \S+e-0[5-9] of the model\n"
    assert re.fullmatch(told, capsys.readouterr().out)
    times = open_session(file).run(None, {"waveform": noise(1, 16000).numpy()})[1]
    assert times.tolist() == [[100.0 * i for i in range(11)]]


def test_what_cannot_be_exported_is_refused(tmp_path, capsys):
    assert main(["export", "random_cnn+random_cvt", "-o", str(tmp_path / "x.onnx")]) == 2
    assert "export each part by itself" in capsys.readouterr().err
    for model, options, words in [
        (make_model("original"), {}, "depends on the other clips of a call"),
        (torch.nn.Linear(1, 1), {}, "got Linear"),
        (make_model("clip", hop_ms=50.3), {"timestamps": True}, r"use a multiple of 0\.0625 ms"),
        (make_model("dataset", encoder="resnetish34"), {"int8": True}, "cnn, cvt; got 'resnetish34'"),
    ]:
        with pytest.raises(OptionError, match=words):
            export_onnx(model, tmp_path / "x.onnx", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingDependencyError, match=r"needs onnxscript: pip install 'hear_byols\[onnx\]'"):
        export_onnx(make_model("clip"), tmp_path / "x.onnx")


def test_int8_files_are_small_and_near(tmp_path, shipped, sharing):
    small = export_onnx(shipped.model, tmp_path / "int8.onnx", int8=True, check=True)
    assert 1e-4 < small.deviation <= 0.05
    assert small.size < 0.6 * shipped.path.stat().st_size
    about = open_session(small.path).get_modelmeta().custom_metadata_map
    wanted = open_session(shipped.path).get_modelmeta().custom_metadata_map
    assert about == wanted | {"weights": "int8"}
    shutil.copy(sharing.path, small.path)
    quantize(small.path, metadata(sharing.model, True))
    assert 1e-5 < compare(sharing.model, small.path, timestamps=True) <= INT8_TOLERANCE
