"""Batches: cut out of the pool on the device, with features, and parts for several processes."""

import numpy as np
import pytest
import torch
from pretraining import N_FRAMES, band_targets

from hear_byols.frontend import LogMel
from hear_byols.training.batches import CropSampler
from hear_byols.training.config import PretrainConfig
from hear_byols.training.distributed import World

N_SAMPLES = PretrainConfig(crop_frames=N_FRAMES).crop_samples


def draw(source, n=8, seed=0):
    return source.draw(n, torch.Generator().manual_seed(seed))


def test_crop_of_96_frames_has_095_seconds():
    assert PretrainConfig().crop_samples == 15200
    assert LogMel().n_frames(15200) == 96


def test_log_mels_are_those_of_stretches_of_the_pool(pool):
    batch = draw(CropSampler(pool, N_SAMPLES))
    assert batch.log_mels.shape == (8, 1, 64, N_FRAMES)
    assert batch.features is None
    loudest = np.abs(pool.audio.astype(int)).max() / 32768
    assert batch.log_mels.exp().sum(2).max() < 512 * 400 * loudest**2


def test_features_belong_to_their_crops(pool):
    targets = band_targets(pool, N_SAMPLES)
    batch = draw(CropSampler(pool, N_SAMPLES, targets=targets), 32)
    bands = batch.log_mels[:, 0].mean(2).unflatten(1, (8, 8)).mean(2)
    torch.testing.assert_close(batch.features, targets.standardizer(bands), rtol=0.02, atol=0.02)


def test_parts_of_several_processes_make_up_the_batch_of_one(pool):
    targets = band_targets(pool, N_SAMPLES)
    whole = draw(CropSampler(pool, N_SAMPLES, targets=targets))
    parts = [draw(CropSampler(pool, N_SAMPLES, targets=targets, world=World(rank, 2))) for rank in range(2)]
    torch.testing.assert_close(torch.cat([part.log_mels for part in parts]), whole.log_mels)
    torch.testing.assert_close(torch.cat([part.features for part in parts]), whole.features)


def test_digest_tells_sources_apart(pool):
    plain, hybrid = CropSampler(pool, N_SAMPLES), CropSampler(pool, N_SAMPLES, targets=band_targets(pool, N_SAMPLES))
    assert plain.digest == CropSampler(pool, N_SAMPLES).digest != hybrid.digest


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_audio_lies_on_the_gpu_and_gives_the_same_log_mels(pool):
    source = CropSampler(pool, N_SAMPLES, "cuda")
    assert source._audio.device.type == "cuda"
    assert source._audio.dtype == torch.int16
    positions = torch.tensor([[100, 16000], [20000, 32000]])
    expected = CropSampler(pool, N_SAMPLES)._cut(positions)
    torch.testing.assert_close(source._cut(positions.cuda()).cpu(), expected)
