"""What a run starts from: the package's encoders, with open forget gates, and batch norms that change nothing yet."""

import pytest
import torch

from hear_byols.encoders import build_encoder
from hear_byols.training.config import ENCODERS
from hear_byols.training.distributed import World
from hear_byols.training.initial import initial_encoder, start_as_identity


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


@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_batch_norms_that_start_as_identity_leave_the_untrained_embeddings(name):
    plain, started = (seeded(initial_encoder, name).eval() for _ in range(2))
    log_mels = torch.randn(8, 1, 64, 32).cumsum(3)
    start_as_identity(started, log_mels, World())
    expected = plain(log_mels)
    for mode in (started.eval, without_dropout(started).train):  # by their statistics, and by the batch's
        assert (mode()(log_mels) - expected).abs().max() < 1e-3 * expected.abs().max()
    torchs = without_dropout(seeded(initial_encoder, name)).train()  # scale 1, shift 0
    assert (torchs(log_mels) - expected).abs().max() > 0.1 * expected.abs().max()


def without_dropout(encoder):
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return encoder
