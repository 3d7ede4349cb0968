"""The encoder that a run starts from."""

from torch import nn

from hear_byols.encoders import build_encoder
from hear_byols.encoders.multilayer import MultilayerEncoder
from hear_byols.errors import OptionError
from hear_byols.hear import load_model

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
