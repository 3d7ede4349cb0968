"""The encoder that a run starts from."""

from __future__ import annotations

import torch
from torch import nn

from hear_byols.encoders import build_encoder

FORGET_BIAS = 2.0  # a gate of 0.88: what an LSTM saw is half gone after five steps; with torch's 0 after one


def initial_encoder(name: str) -> nn.Module:
    """Build an untrained encoder, its LSTM's forget gates open (Jozefowicz et al. 2015, section 2.2).

    The CLSTM's embedding is its LSTM's last output, 24 steps after the beginning of a crop of 0.95 s.

    Args:
        name: "cnn", "resnetish34", "clstm" or "cvt".

    Returns:
        The encoder in train mode, (batch, 1, n_mels, n_frames) -> (batch, embedding_size).

    Raises:
        OptionError: no such encoder.
    """
    encoder = build_encoder(name)
    for module in encoder.modules():
        if isinstance(module, nn.LSTM):
            _open_forget_gates(module)
    return encoder


@torch.no_grad()
def _open_forget_gates(lstm: nn.LSTM) -> None:
    for name, value in lstm.named_parameters():
        if name.startswith("bias_"):  # input, forget, cell, output gate; the two biases of a gate are added
            value.unflatten(0, (4, -1))[1] = FORGET_BIAS / 2
