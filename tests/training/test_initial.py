"""What a run starts from: the package's encoders, with open forget gates."""

import torch

from hear_byols.encoders import build_encoder
from hear_byols.training.config import ENCODERS
from hear_byols.training.initial import initial_encoder


def seeded(build, name):
    torch.manual_seed(5)
    return build(name)


def test_only_the_biases_of_forget_gates_differ_from_the_untrained_encoder():
    for name in ENCODERS:
        plain, initial = seeded(build_encoder, name).state_dict(), seeded(initial_encoder, name).state_dict()
        changed = {key for key, value in plain.items() if not torch.equal(initial[key], value)}
        assert changed == ({key for key in plain if "lstm.bias" in key} if name == "clstm" else set())
        for key in changed:
            same = torch.arange(2048) // 512 != 1
            assert torch.equal(initial[key][same], plain[key][same])


@torch.no_grad()
def test_the_clstm_remembers_the_beginning_of_a_crop():
    log_mels = torch.randn(2, 1, 64, 96)
    log_mels[1, ..., 24:] = log_mels[0, ..., 24:]  # they differ in the first quarter only
    first, second = seeded(initial_encoder, "clstm").eval()(log_mels)
    plain_first, plain_second = seeded(build_encoder, "clstm").eval()(log_mels)
    assert (first - second).norm() / first.norm() > 5 * (plain_first - plain_second).norm() / plain_first.norm()
