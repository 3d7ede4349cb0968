"""The encoder that a run starts from."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hear_byols.encoders import build_encoder
from hear_byols.encoders.multilayer import MultilayerEncoder
from hear_byols.errors import OptionError
from hear_byols.hear import load_model
from hear_byols.training.distributed import World

FORGET_BIAS = 2.0  # a gate of 0.88: what an LSTM saw is half gone after five steps; with torch's 0 after one


def initial_encoder(name: str, init: str = "") -> MultilayerEncoder:
    """Build an untrained encoder, its LSTM's forget gates open (Jozefowicz et al. 2015, section 2.2), or load one.

    The CLSTM's embedding is its LSTM's last output, 24 steps after the beginning of a crop of 0.95 s. ``init`` is a
    model of that encoder, whose weights it begins with.

    Raises:
        OptionError: no such encoder, or ``init`` has another one.
        WeightsNotFoundError: no such model.
    """
    encoder = build_encoder(name)
    if init:
        given = load_model(init).encoder
        if not isinstance(given, type(encoder)):
            raise OptionError(f"init {init!r} has the encoder {type(given).__name__}, not that of {name!r}")
        given.head = None
        encoder.load_state_dict(given.state_dict())
        return encoder
    for lstm in (module for module in encoder.modules() if isinstance(module, nn.LSTM)):
        for name, value in lstm.named_parameters():
            if name.startswith("bias_"):  # input, forget, cell, output gate; the two biases of a gate are added
                value.detach().unflatten(0, (4, -1))[1] = FORGET_BIAS / 2
    return encoder


@torch.no_grad()
def start_as_identity(encoder: nn.Module, log_mels: Tensor, world: World) -> None:
    """Give each batch norm the scale and shift of what it normalizes, so that at first it changes nothing.

    With torch's scale of 1 and shift of 0, training begins from another function than that of the untrained encoder,
    whose batch norms have no statistics yet, and often from a worse one. ``log_mels`` are this process's part of
    standardized crops [shape=(batch, 1, n_mels, n_frames)].
    """

    def settle(norm: _BatchNorm, inputs: tuple[Tensor], _: Tensor) -> Tensor:
        values = inputs[0].double()
        axes = [0, *range(2, values.dim())]
        mean, square = world.mean(torch.stack([values.mean(axes), values.square().mean(axes)]))
        variance = (square - mean.square()).clamp_min(0)
        for name, value in (("bias", mean), ("running_mean", mean), ("running_var", variance)):
            getattr(norm, name).copy_(value)
        norm.weight.copy_((variance + norm.eps).sqrt())
        return inputs[0]

    hooks = [m.register_forward_hook(settle) for m in encoder.modules() if isinstance(m, _BatchNorm)]
    encoder.train()(log_mels)
    for hook in hooks:
        hook.remove()
