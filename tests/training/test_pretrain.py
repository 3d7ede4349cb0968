"""The steps of a run: they learn, and depend on nothing but the settings and the number of the step."""

import copy
import dataclasses

import pytest
import torch
from pretraining import TinyEncoder, make_trainer, steps, write_clips

from hear_byols.encoders import build_encoder
from hear_byols.errors import CheckpointError, TrainingError
from hear_byols.training.config import ENCODERS
from hear_byols.training.loop import load_newest, read_log, save_state, states, train
from hear_byols.training.presets import make_runs
from hear_byols.training.run import Hardware, pretrain
from hear_byols.training.trainer import FORGET_BIAS, initial_encoder


def ignore(trainer, row):
    """Export nothing."""


def log(folder, name="step"):
    """A column of the log."""
    return [line[name] for line in read_log(folder / "log.csv")]


def test_only_the_biases_of_forget_gates_differ_from_the_untrained_encoder():
    for name in ENCODERS:
        states = []
        for build in (build_encoder, initial_encoder):
            torch.manual_seed(5)
            states.append(build(name).state_dict())
        expected, initial = states
        for key in (key for key in expected if name == "clstm" and "lstm.bias" in key):
            expected[key][512:1024] = FORGET_BIAS / 2  # the second of four gates; its bias is the sum of two
        assert all(torch.equal(initial[key], value) for key, value in expected.items())


def test_hybrid_lowers_both_losses(pool):
    values = steps(make_trainer(pool, total_steps=60, learning_rate=3e-3, alpha=0.5, beta=2.0), 60)
    loss, supervised, self_supervised, spread = values.unbind(1)
    torch.testing.assert_close(loss, 0.5 * supervised + 2 * self_supervised)
    for lowered in (supervised, self_supervised):
        assert lowered[-10:].mean() < 0.8 * lowered[:10].mean()
    assert spread[-1] > 0.05


def test_self_supervised_run_needs_no_features(pool):
    trainer, hybrid = make_trainer(pool, hybrid=False, beta=2.0), make_trainer(pool)
    loss, supervised, self_supervised, _ = trainer.step()
    assert supervised.isnan()
    torch.testing.assert_close(loss, 2 * self_supervised)
    assert trainer.network.prediction_head[3].out_features == 256
    assert hybrid.network.prediction_head[3].out_features == 8  # of the features


def test_data_set_statistics_are_those_of_the_crops(pool):
    trainer = make_trainer(pool, hybrid=False)
    log_mels = torch.cat([trainer.crops.draw(32, torch.Generator().manual_seed(s))[0] for s in range(20)])
    assert trainer.mean == pytest.approx(log_mels.mean().item(), abs=0.5)
    assert trainer.std == pytest.approx(log_mels.std().item(), rel=0.1)


def test_a_run_goes_on_with_its_own_settings_and_data_alone_but_may_get_longer_at_constant_rate(pool, tmp_path):
    trainer = make_trainer(pool, steps=10)
    steps(trainer, 2)
    save_state(trainer, tmp_path)
    assert load_newest(make_trainer(pool, steps=20), tmp_path)
    for change, differing in (
        ({"head_hidden": 16}, "head_hidden"),
        ({"seed": 7}, "seed"),
        ({"mel_scale": (1.0, 1.0)}, "mel_scale"),
        ({"steps": 1}, "steps=10"),
        ({"steps": 20, "schedule": "cosine"}, "steps=10"),
    ):
        with pytest.raises(CheckpointError, match=differing):
            load_newest(make_trainer(pool, **{"steps": 10, **change}), tmp_path)
    with pytest.raises(CheckpointError, match="other data"):
        load_newest(make_trainer(dataclasses.replace(pool, digest="other files"), steps=10), tmp_path)


def test_a_run_that_has_ended_goes_on_exactly_with_a_schedule_that_begins_anew(pool, tmp_path):
    encoder = TinyEncoder(dropout=0.3)
    state = torch.random.get_rng_state()
    ended, longer, whole, other = (
        make_trainer(pool, encoder=copy.deepcopy(encoder), schedule="cosine", steps=length, restarts=restarts)
        for length, restarts in ((2, ()), (4, (2,)), (4, (2,)), (4, (1,)))
    )
    steps(ended, 2)
    save_state(ended, tmp_path)
    with pytest.raises(CheckpointError, match="steps=2"):
        load_newest(other, tmp_path)
    assert load_newest(longer, tmp_path)
    torch.testing.assert_close(steps(longer, 2), steps(whole, 4)[2:], rtol=0, atol=0)
    for name, weights in whole.network.state_dict().items():
        assert torch.equal(weights, longer.network.state_dict()[name]), name
    assert torch.equal(state, torch.random.get_rng_state())  # the caller's stays as it was


def test_a_run_of_an_earlier_version_continues(pool):
    """Its heads have their former names, and options that are younger are at their defaults."""
    begun = make_trainer(pool)
    begun.step()
    state = begun.state_dict()
    del state["config"]["rate_fan_in"]
    for name, former in (("projection_head", "projector"), ("prediction_head", "predictor")):
        state["network"] = {key.replace(name, former): value for key, value in state["network"].items()}
    continued = make_trainer(pool)
    continued.load_state_dict(state)
    torch.testing.assert_close(continued.step(), begun.step(), rtol=0, atol=0)
    with pytest.raises(CheckpointError, match="rate_fan_in=0, this one 8"):
        make_trainer(pool, rate_fan_in=8).load_state_dict(state)


def test_first_step_moves_weights_by_their_rate_which_is_lower_in_wide_layers_of_the_encoder_if_asked_for(pool):
    for options, share in (({}, 1), ({"rate_fan_in": 10}, 10 / 25)):
        trainer = make_trainer(pool, learning_rate=1e-3, **options)
        before = {name: value.detach().clone() for name, value in trainer.network.online.named_parameters()}
        trainer.step()
        for name, value in trainer.network.online.named_parameters():
            wanted = 1e-3 * (share if name == "encoder.net.0.weight" else 1)  # Adam's first step is the rate
            assert (value - before[name]).abs().max().item() == pytest.approx(wanted, rel=0.02), name


def test_a_damaged_newest_state_gives_way_to_the_one_before(pool, tmp_path, caplog):
    trainer, resumed = make_trainer(pool), make_trainer(pool)
    for _ in range(3):
        trainer.step()
        newest = save_state(trainer, tmp_path)
    assert [path.name for path in states(tmp_path)] == ["step-000000002.pt", "step-000000003.pt"]
    content = newest.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1  # in the middle of weights, where torch would not notice
    torch.save([1, 2], newest)
    for damaged in (newest.read_bytes(), content[:-100], flipped):
        newest.write_bytes(damaged)
        caplog.clear()
        assert load_newest(resumed, tmp_path)
        assert resumed.n_steps == 2
        assert newest.name in caplog.text
    states(tmp_path)[0].unlink()
    with pytest.raises(CheckpointError, match="none of the 1 states"):
        load_newest(resumed, tmp_path)
    torch.save({"n_steps": 3}, newest)
    with pytest.raises(CheckpointError, match=r"lacks config, data, .*; remove it"):
        load_newest(resumed, tmp_path)


def test_loop_logs_means_over_lines_and_exports_at_the_end_and_when_called_again(pool, tmp_path):
    exported = []
    for _ in range(2):  # the first sitting may have had no room for the export
        train(make_trainer(pool, total_steps=7, log_steps=3), tmp_path, lambda _, row: exported.append(row))
    assert log(tmp_path) == [3, 6, 7]
    losses = steps(make_trainer(pool, total_steps=7), 7)[:, 0]
    assert log(tmp_path, "loss") == pytest.approx([part.mean().item() for part in losses.split(3)], rel=1e-5)
    assert [row["step"] for row in exported] == [7, 7]
    assert [row["loss"] for row in exported] == pytest.approx([losses[6].item()] * 2, rel=1e-5)
    assert [p.name for p in states(tmp_path / "states")] == ["step-000000007.pt"]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "tensorboard").iterdir())


def test_lines_of_a_sitting_that_was_not_saved_are_written_once(pool, tmp_path):
    train(make_trainer(pool, total_steps=3), tmp_path, ignore)
    with open(tmp_path / "log.csv", "a") as file:
        file.write("4,1,0.1,9,9,9,9\n5,1,0.")  # the run was killed while it wrote a line
    train(make_trainer(pool, total_steps=5, steps=5), tmp_path, ignore)
    assert log(tmp_path) == [1, 2, 3, 4, 5]
    assert log(tmp_path, "loss")[3] < 9


@pytest.mark.parametrize(("log_steps", "clip_norm"), [(1, 0.0), (2, 5.0)])  # in the second, gradients are NaN too
def test_a_loss_that_is_not_finite_stops_the_run_before_it_is_saved(pool, tmp_path, log_steps, clip_norm):
    trainer = make_trainer(pool, save_minutes=0.0, log_steps=log_steps, clip_norm=clip_norm)
    step = trainer.step

    def poisoned():
        values = step()
        if trainer.n_steps == 3:
            with torch.no_grad():
                trainer.network.online.encoder.net[0].weight[0] = torch.nan
        return values

    trainer.step = poisoned
    with pytest.raises(TrainingError, match=rf"not finite before step {2 + log_steps}.*step-000000002\.pt"):
        train(trainer, tmp_path, ignore)
    assert log(tmp_path) == [1, 2][log_steps - 1 :]


def test_collapsed_embeddings_stop_the_run(pool, tmp_path):
    class Constant(TinyEncoder):
        def forward(self, x):
            return torch.ones(len(x), 16) + 0 * super().forward(x)

    with pytest.raises(TrainingError, match=r"collapsed by step 1: their spread is .*no state"):
        train(make_trainer(pool, encoder=Constant()), tmp_path, ignore)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_in_bfloat16_lowers_the_losses(tmp_path):
    settings = {"steps": 30, "batch_size": 32, "precision": "bfloat16", "log_steps": 5}
    runs = make_runs("byol_s_cvt", tmp_path / "run", **settings)
    pretrain(runs, [write_clips(tmp_path / "audio")], hardware=Hardware("cuda"))
    losses = log(tmp_path / "run", "loss_self_supervised")
    assert losses[-1] < losses[0]
