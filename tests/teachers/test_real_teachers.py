"""Teachers with their real weights: equal to what is published, run by ONNX Runtime where that can be."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from hear_byols.cli.demo import melody, voice
from hear_byols.teachers import load_teacher
from hear_byols.teachers.store import add_teachers

FILES = Path(__file__).resolve().parents[3] / "shared" / "teachers" / "files"
NAMES = {
    "smart_turn": "smart_turn_int8.npz",
    "moonshine": "moonshine_tiny_en.npz",
    "mn04": "mn04_as_mAP_432.pt",
    "resemblyzer": "resemblyzer.pt",
    "swift_f0": "swift_f0.onnx",
    "yamnet": "yamnet_int8.npz",
    "speech_embedding": "speech_embedding.npz",
}
pytestmark = pytest.mark.skipif(not FILES.is_dir(), reason="the teachers' files are not beside this checkout")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """All teachers, added from the files that lie beside this checkout."""
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("teachers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEAR_BYOLS_HOME", str(folder))
        for name, file in NAMES.items():
            assert [record.name for record, _ in add_teachers(FILES / file)] == [name]
        yield folder
    shutil.rmtree(folder)


def clips():
    """A second each of noise, a tone in noise, a voice and a melody."""
    generator = np.random.default_rng(0)
    noise = generator.standard_normal(16000)
    tone = 0.3 * np.sin(2 * np.pi * 220 * np.arange(16000) / 16000)
    voiced, music = voice(16000, 140)[:16000], melody(16000)[:16000, 0]
    sounds = [0.1 * noise, tone + 1e-3 * noise, 0.5 * voiced + 1e-4 * noise, 0.5 * music + 1e-4 * noise]
    return torch.tensor(np.stack(sounds), dtype=torch.float32)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_silence_is_finite_and_half_precision_close(home, name):
    exact, rough = load_teacher(name), load_teacher(name, precision="bfloat16")
    for n_samples in (1, 400, 25000):
        assert bool(torch.isfinite(exact(torch.zeros(1, n_samples))).all())
    both = torch.stack([exact(clips()).flatten(), rough(clips()).flatten()])
    assert float(torch.corrcoef(both)[0, 1]) > (0.99 if name == "mn04" else 0.999)


def test_swift_f0_agrees_with_onnx_runtime(home):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    graph = onnx.load(FILES / NAMES["swift_f0"])
    for output in ("v429", "v437"):  # logits of pitches and of voicing
        graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(output))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    limits = {"fmin": np.array(46.875, np.float32), "fmax": np.array(2093.75, np.float32)}
    teacher = load_teacher("swift_f0")
    for clip in (*clips(), clips()[2, :5000], clips()[0, :100]):
        logits, voicing = session.run(["v429", "v437"], {"audio": clip[None].numpy(), **limits})
        frames = teacher(clip[None])[0].numpy()
        assert frames.shape == (logits.shape[1], 191)
        assert np.abs(frames[:, :95] - logits[0]).max() < 1e-4 * np.abs(logits).max()
        assert np.abs(frames[:, 95:190].sum(1) - 1).max() < 1e-5
        assert np.abs(frames[:, 190] - voicing.ravel()).max() < 1e-4 * np.abs(logits).max()


def test_the_pages_examples_run(home):
    page = (Path(__file__).resolve().parents[2] / "docs" / "teachers.md").read_text()
    names = {"audio": clips()}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)  # as a reader would paste it
    assert names["model"].scene_embedding_size == 1376
    assert names["frames"].shape == (4, 40, 288)
