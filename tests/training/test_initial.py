"""What a run starts from: the package's encoders, with open forget gates."""

import torch

from hear_byols.encoders import build_encoder
from hear_byols.training.config import ENCODERS
from hear_byols.training.initial import FORGET_BIAS, initial_encoder


def seeded(build, name):
    torch.manual_seed(5)
    return build(name).state_dict()


def test_only_the_biases_of_forget_gates_differ_from_the_untrained_encoder():
    for name in ENCODERS:
        plain, initial = seeded(build_encoder, name), seeded(initial_encoder, name)
        changed = {key for key, value in plain.items() if not torch.equal(initial[key], value)}
        assert changed == ({key for key in plain if "lstm.bias" in key} if name == "clstm" else set())
        for key in changed:  # input, forget, cell and output gate; the bias of one is the sum of two
            expected = plain[key].clone()
            expected[512:1024] = FORGET_BIAS / 2
            assert torch.equal(initial[key], expected)
