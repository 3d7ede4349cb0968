"""Other projects' words for our models, checked by those projects' own code where it is installed."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hub_client import forbid_sockets

import hear_byols
from hear_byols.ecosystem.xares import HearByolsEncoder
from hear_byols.errors import InputError

ROOT = Path(__file__).parents[2]
MODEL = "random_cnn"


def pitch(frequency: float, seed: int) -> np.ndarray:
    """A second at 8 kHz, with a little noise."""
    noise = np.random.default_rng(seed).normal(size=8000)
    return 0.3 * np.sin(2 * np.pi * frequency * np.arange(8000) / 8000) + 0.01 * noise


def test_xares_runs_a_whole_task(tmp_path, monkeypatch):
    """Its own encoding, training and scores, over recordings of two pitches at 8 kHz; no socket is opened."""
    pytest.importorskip("xares")
    clips = [tmp_path / f"{i}.wav" for i in range(12)]
    for i, path in enumerate(clips):
        soundfile.write(path, pitch((300, 1500)[i % 2], i), 8000)
    try:
        from xares import audiowebdataset as web
        from xares import task

        web.torchaudio.load(io.BytesIO(clips[0].read_bytes()))
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f"X-ARES reads audio by torchaudio, in a release that fits torch's: {error}")
    forbid_sockets(monkeypatch.setattr)
    monkeypatch.setattr("torch.set_num_threads", lambda n: None)
    home = tmp_path / "env" / "pitches"
    home.mkdir(parents=True)
    (home / ".audio_tar_ready").touch()
    for split in ("train", "valid", "test"):
        web.write_audio_tar(
            list(map(str, clips)), ["ab"[i % 2] for i in range(12)], f"{home}/{split}-*.tar", num_shards=1
        )
    config = task.TaskConfig(
        name="pitches",
        private=True,
        env_root=tmp_path / "env",
        encoder=HearByolsEncoder("cnn_hybrid", hop_ms=200),
        label_processor=lambda about: "ab".index(about["label"]),
        output_dim=2,
        eval_weight=12,
        num_encoder_workers=0,
    )
    (mlp, n_clips), (knn, _) = task.XaresTask(config).run()
    assert (float(mlp), float(knn), n_clips) == (1.0, 1.0, 12)


def test_xares_gets_our_timestamps():
    encoder = HearByolsEncoder(MODEL, hop_ms=100)
    audio = torch.rand(2, 8000) - 0.5
    expected = hear_byols.load_model(MODEL, hop_ms=100).timestamp_embeddings(audio)[0]
    assert torch.equal(encoder(audio), expected)
    assert encoder(audio[0]).shape == (1, 6, encoder.output_dim)


def test_mteb_gets_our_vectors():
    pytest.importorskip("mteb")
    from hear_byols.ecosystem.mteb import HearByols, model_meta

    meta = model_meta(MODEL)
    assert (meta.name, meta.embed_dim) == (f"hear-byols/{MODEL}", 2048)
    encoder = HearByols(meta.name, device="cpu")
    rng = np.random.default_rng(0)
    clips = [rng.uniform(-0.3, 0.3, n).astype(np.float32) for n in (8000, 5000, 9000)]
    rows = [{"audio": {"array": clip, "sampling_rate": 16000}} for clip in clips]
    rows.append({"audio": {"array": np.stack([clips[0]] * 2, 1), "sampling_rate": 8000}})
    loader = torch.utils.data.DataLoader(rows, batch_size=3)
    vectors = encoder.encode(loader, task_metadata=None, hf_split="test", hf_subset="default")
    expected = hear_byols.encode(clips, MODEL)
    np.testing.assert_allclose(vectors[:3], expected, atol=1e-4)
    assert vectors.shape == (4, 2048)
    assert np.isfinite(vectors).all()


def test_mteb_evaluates_us(tmp_path, monkeypatch):
    """Its own classification task, over recordings of two pitches at 8 kHz; no socket is opened."""
    mteb = pytest.importorskip("mteb")
    from datasets import Dataset, DatasetDict
    from mteb.mocks.mock_tasks import MockAudioClassification
    from mteb.models.models_protocols import EncoderProtocol

    from hear_byols.ecosystem.mteb import HearByols

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    forbid_sockets(monkeypatch.setattr)

    class Pitches(MockAudioClassification):
        def load_data(self, **_) -> None:
            labels = [0, 1] * 8
            clips = [pitch((300, 1500)[label], i) for i, label in enumerate(labels)]
            rows = [{"array": clip.astype(np.float32), "sampling_rate": 8000} for clip in clips]
            rows = Dataset.from_dict({"audio": rows, "label": labels})
            self.dataset, self.data_loaded = DatasetDict({"train": rows, "test": rows}), True

    encoder = HearByols("cnn_hybrid", device="cpu")
    assert isinstance(encoder, EncoderProtocol)
    assert (encoder.mteb_model_meta.name, encoder.mteb_model_meta.license) == ("hear-byols/cnn_hybrid", "cc-by-4.0")
    (result,) = mteb.evaluate(encoder, Pitches(), cache=None).task_results
    assert result.get_score() == 1.0


def test_torch_hub_loads_a_model():
    model = torch.hub.load(str(ROOT), "hear_byols", MODEL, source="local", normalization="clip")
    assert model.scene_embedding_size == 2048


def test_encode_takes_paths_and_samples_alike(tmp_path):
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, 8000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 16000, "FLOAT")
    vectors = hear_byols.encode([samples, tmp_path / "a.wav", torch.from_numpy(samples[:4000])], MODEL)
    np.testing.assert_allclose(vectors[1], vectors[0], atol=1e-4)
    np.testing.assert_allclose(vectors[0], hear_byols.embed_files(tmp_path / "a.wav", MODEL), atol=1e-4)
    for wrong in ([], "a.wav"):
        with pytest.raises(InputError):
            hear_byols.encode(wrong, MODEL)
