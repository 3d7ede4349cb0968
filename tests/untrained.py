"""Untrained models for tests, sounds for them, and how near the vectors of two ways must be."""

import torch
from torch import nn

from hear_byols.config import EncoderConfig, FrontendConfig, ModelConfig, NormalizationConfig
from hear_byols.encoders import EMBEDDING_SIZES
from hear_byols.model import EmbeddingModel

SIZES = EMBEDDING_SIZES | {"cnn": 32}


def make_model(
    mode: str = "dataset", layers: str = "last", encoder: str = "cnn", seed: int = 1, win_length: int = 400, **options
) -> EmbeddingModel:
    """The same each time; its batch norms have statistics and scales that matter, and its heads nine components."""
    parts = FrontendConfig(win_length=win_length), NormalizationConfig(mode, -5.0, 4.0)
    config = ModelConfig(EncoderConfig(encoder, SIZES[encoder], layers, 9), *parts)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = EmbeddingModel(config, **options)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.3, 3)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
    return model


def noise(n_clips: int, n_samples: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n_samples)
    return 0.3 * torch.randn(n_clips, n_samples, generator=generator) * torch.linspace(0.01, 1, n_samples)


def assert_same(got: torch.Tensor, wanted: torch.Tensor, tolerance: float = 1e-4) -> None:
    """Equal within a share of the largest component."""
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    assert torch.isfinite(got).all()
    assert (got - wanted).abs().max() <= tolerance * wanted.abs().max()
