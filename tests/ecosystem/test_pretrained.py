"""The words of the Hub and of transformers: a repository, a folder or on a (local) Hub, is one model to all of them."""

import copy
import json
import pickle
import re
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hub_client import CONFIG, HubClient, save_tiny, vector
from hub_server import HubServer, sha256

import hear_byols
from hear_byols.errors import CheckpointError, OptionError, WeightsNotFoundError


def noise(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.uniform(-0.3, 0.3, n).astype(np.float32) for n in lengths]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("checkpoint") / "tiny.pth")


@pytest.fixture
def folder(checkpoint, tmp_path) -> Path:
    """A repository in a folder."""
    hear_byols.from_pretrained(checkpoint).save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_folder_holds_the_model(checkpoint, folder, monkeypatch):
    names = {"model.safetensors", "README.md", "config.json", "preprocessor_config.json", "hear_byols_auto.py"}
    assert {path.name for path in folder.iterdir()} == names
    settings = json.loads((folder / "config.json").read_text())
    assert settings["auto_map"]["AutoModel"] == "hear_byols_auto.HearByolsModel"
    assert (settings["hidden_size"], settings["sampling_rate"]) == (16, 16000)
    (clip,) = noise(8000)
    expected = hear_byols.encode([clip], hear_byols.load_model(checkpoint))
    monkeypatch.chdir(folder.parent)
    for name in (folder, str(folder), "saved"):
        model = hear_byols.from_pretrained(name)
        assert np.array_equal(hear_byols.encode([clip], model), expected)
        assert (model.config, model.provenance) == (CONFIG, {"name": "tiny", "licence": "MIT"})
    assert hear_byols.from_pretrained(folder, hop_ms=200, normalization="clip").normalization == "clip"
    with open(folder / "model.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    with pytest.raises(CheckpointError, match="digest"):
        hear_byols.from_pretrained(folder)


def test_names_mean_models_whatever_lies_here(tmp_path, monkeypatch):
    (tmp_path / "random_cnn").mkdir()
    monkeypatch.chdir(tmp_path)
    model = hear_byols.from_pretrained("random_cnn")
    assert isinstance(model, hear_byols.EmbeddingModel)
    assert model.scene_embedding_size == 2048
    (clip,) = noise(4000)
    vectors = hear_byols.encode([clip], model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(hear_byols.encode([clip], twin), vectors)


def test_what_cannot_be_loaded_is_said():
    for name, options, error, words in (
        ("opensmile", {}, OptionError, "load_model"),
        ("random_cnn", {"revision": "main"}, OptionError, "revision"),
        ("random_cnn", {"device_map": "auto"}, OptionError, "device_map"),
        ("nobody/nothing", {}, WeightsNotFoundError, "offline"),
        ("nothing", {}, WeightsNotFoundError, "nothing"),
    ):
        with pytest.raises(error, match=words):
            hear_byols.from_pretrained(name, **options)


def _push(name: str, repo: str, branch: str) -> str:
    """By either way."""
    model = hear_byols.from_pretrained(name)
    if branch != "main":
        return model.push_to_hub(repo, branch=branch)
    with tempfile.TemporaryDirectory() as folder:
        return model.save_pretrained(folder, push_to_hub=True, repo_id=repo)


def _by_transformers(name: str) -> list[float]:
    from transformers import AutoModel

    model = AutoModel.from_pretrained(name, trust_remote_code=True)
    return model(torch.linspace(-1, 1, 16000)[None]).pooler_output[0].tolist()


def test_the_hub_gives_back_what_was_pushed(checkpoint, tmp_path):
    settings = {"HF_TOKEN": "hf_ana", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    with HubServer() as server, HubClient(tmp_path, server.url, **settings) as client:
        spec = client.value(_push, checkpoint, "ana/tiny", "trial")
        repo = server.repos["ana/tiny"]
        files = repo.commits[repo.refs["trial"]]
        digest = sha256(files["model.safetensors"])
        assert spec == f"hf://ana/tiny/model.safetensors@{repo.refs['trial']}#sha256={digest}"
        expected = client.value(vector, hear_byols.load_model, spec)
        assert client.value(vector, hear_byols.from_pretrained, "ana/tiny", revision="trial") == expected
        assert "model.safetensors" in client.refused(WeightsNotFoundError, hear_byols.from_pretrained, "ana/tiny")
        assert 'from_pretrained("ana/tiny", revision="trial")' in files["README.md"].decode()
        assert "licence" in client.refused(CheckpointError, _push, "random_cnn", "ana/x", "main")
        client.value(_push, checkpoint, "ana/tiny", "main")
        if find_spec("transformers"):
            np.testing.assert_allclose(client.value(_by_transformers, "ana/tiny"), expected, atol=1e-6)


@pytest.fixture
def auto():
    return pytest.importorskip("transformers")


def test_transformers_gives_the_same_vectors(auto, folder):
    model = auto.AutoModel.from_pretrained(folder, trust_remote_code=True, hop_ms=100)
    extractor = auto.AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
    assert model.config.hidden_size == 16
    clips = noise(8000, 5000, 8000)
    ours = hear_byols.load_model(folder / "model.safetensors", hop_ms=100)
    inputs = extractor(clips, sampling_rate=16000, return_tensors="pt")
    assert inputs["input_values"].shape == (3, 8000)
    output = model(**inputs, timestamps=True)
    np.testing.assert_allclose(output.pooler_output.detach(), hear_byols.encode(clips, ours), atol=1e-5)
    windows, _ = ours.timestamp_embeddings(clips)
    assert output.last_hidden_state.shape == (3, 6, 16)
    torch.testing.assert_close(output.last_hidden_state[1, :4], windows[1], atol=1e-5, rtol=0)
    assert not output.last_hidden_state[1, 4:].any()
    one = model(**extractor(clips[0], sampling_rate=16000, return_tensors="pt"))
    assert one.last_hidden_state is None
    torch.testing.assert_close(one.pooler_output[0], output.pooler_output[0], atol=1e-5, rtol=0)
    with pytest.raises(OptionError, match="16000 Hz, got 8000"):
        extractor(clips, sampling_rate=8000)


def test_transformers_tunes_and_saves(auto, folder, tmp_path):
    model = auto.AutoModel.from_pretrained(folder, trust_remote_code=True)
    audio = torch.from_numpy(np.stack(noise(8000, 8000)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(audio).pooler_output.square().sum().backward()
    optimizer.step()
    model.save_pretrained(tmp_path / "tuned")
    again = auto.AutoModel.from_pretrained(tmp_path / "tuned", trust_remote_code=True)
    assert torch.equal(again(audio).pooler_output, model(audio).pooler_output)
    first = auto.AutoModel.from_pretrained(folder, trust_remote_code=True)
    assert not torch.allclose(first(audio).pooler_output, again(audio).pooler_output)


def test_transformers_says_what_to_install(auto, folder, monkeypatch):
    class Missing:
        def find_spec(self, name, *_):
            if name == "hear_byols":
                raise ModuleNotFoundError("No module named 'hear_byols'", name=name)

    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "hear_byols")
    with pytest.raises(ImportError, match="pip install hear_byols"):
        auto.AutoModel.from_pretrained(folder, trust_remote_code=True)


def test_the_blocks_of_the_card_run(auto, folder, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recordings").mkdir()
    for path in ("speech.wav", "recordings/a.wav", "recordings/b.flac"):
        soundfile.write(path, noise(8000)[0], 16000)
    blocks = re.findall(r"^```python\n(.*?)^```$", (folder / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    names: dict = {}
    for block in blocks:
        exec(block, names)
    assert names["vectors"].shape == (1, 16)
    expected = hear_byols.embed_files("recordings/a.wav", names["model"])
    np.testing.assert_allclose(names["dataset"][0]["embedding"], expected, atol=1e-5)
