"""Batch-norm statistics of a trained encoder, measured anew."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def measure_batch_norm(encoder: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace running means and variances by their averages over batches; leaves the encoder in evaluation mode.

    Args:
        encoder: changed in place; only its batch norms are in training mode meanwhile, so nothing is dropped.
        batches: inputs of the encoder.
    """
    encoder.eval()
    norms = [module for module in encoder.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch: a plain average
        norm.train()
    for batch in batches:
        encoder(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
