"""The steps of a run: they learn, and depend on nothing but the settings and the number of the step."""

import dataclasses

import numpy as np
import pytest
import torch
from pretraining import TinyEncoder, make_trainer

from hear_byols.errors import CheckpointError, OutputError, TrainingError
from hear_byols.training.loop import load_newest, save_state, states, train
from hear_byols.training.metrics import read_log
from hear_byols.training.pretrain import Pretrainer
from hear_byols.training.trainer import by_rate


def ignore(trainer, row):
    """Export nothing."""


def test_hybrid_lowers_both_losses(pool):
    trainer = make_trainer(pool, total_steps=60, learning_rate=3e-3)
    rows = np.array([trainer.step().tolist() for _ in range(60)])
    begun, ended = rows[:10].mean(0), rows[-10:].mean(0)
    for name in ("loss_supervised", "loss_self_supervised"):
        assert ended[Pretrainer.values.index(name)] < 0.8 * begun[Pretrainer.values.index(name)]
    np.testing.assert_allclose(rows[:, 0], rows[:, 1] + rows[:, 2], rtol=1e-5)
    assert rows[-1, Pretrainer.values.index("spread")] > 0.05


def test_losses_are_weighted_by_alpha_and_beta(pool):
    loss, supervised, self_supervised, _ = make_trainer(pool, alpha=0.5, beta=3.0).step().tolist()
    assert loss == pytest.approx(0.5 * supervised + 3 * self_supervised, rel=1e-5)


def test_self_supervised_run_needs_no_features(pool):
    trainer = make_trainer(pool, hybrid=False, beta=2.0)
    loss, supervised, self_supervised, _ = trainer.step().tolist()
    assert np.isnan(supervised)
    assert loss == pytest.approx(2 * self_supervised, rel=1e-5)
    assert trainer.network.prediction_head[3].out_features == 256
    assert make_trainer(pool).network.prediction_head[3].out_features == 8  # of the features, with them


def test_data_set_statistics_are_those_of_the_crops(pool):
    trainer = make_trainer(pool, hybrid=False)
    log_mels = torch.cat([trainer.crops.draw(32, torch.Generator().manual_seed(s)).log_mels for s in range(20)])
    assert trainer.mean == pytest.approx(log_mels.mean().item(), abs=0.5)
    assert trainer.std == pytest.approx(log_mels.std().item(), rel=0.1)


@pytest.mark.parametrize("hybrid", [True, False])
def test_resumed_run_equals_an_uninterrupted_one(pool, tmp_path, hybrid):
    def make():
        return make_trainer(pool, hybrid, encoder=TinyEncoder(dropout=0.3), schedule="cosine")

    torch.manual_seed(0)
    whole = make()
    weights = {k: v.clone() for k, v in whole.network.state_dict().items()}
    expected = [whole.step() for _ in range(8)]
    first = make()
    first.network.load_state_dict(weights)
    losses = [first.step() for _ in range(4)]
    save_state(first, tmp_path, keep=1)
    second = make()  # its own fresh weights, memory and moments are all replaced
    assert load_newest(second, tmp_path)
    losses += [second.step() for _ in range(4)]
    torch.testing.assert_close(torch.stack(losses), torch.stack(expected), rtol=0, atol=0, equal_nan=True)


def test_continuing_with_other_settings_or_on_other_data_is_refused(pool, tmp_path):
    save_state(make_trainer(pool), tmp_path, keep=1)
    for change in ({"head_hidden": 16}, {"seed": 7}, {"mel_scale": (1.0, 1.0)}):
        with pytest.raises(CheckpointError, match=next(iter(change))):
            load_newest(make_trainer(pool, **change), tmp_path)
    with pytest.raises(CheckpointError, match="other data"):
        load_newest(make_trainer(dataclasses.replace(pool, digest="other files")), tmp_path)


def test_a_longer_run_may_continue_a_shorter_one_at_constant_rate(pool, tmp_path):
    trainer = make_trainer(pool, steps=10)
    trainer.step()
    trainer.step()
    save_state(trainer, tmp_path, keep=1)
    with pytest.raises(CheckpointError, match="steps=10"):
        load_newest(make_trainer(pool, steps=1), tmp_path)
    assert load_newest(make_trainer(pool, steps=20), tmp_path)
    with pytest.raises(CheckpointError, match=r"steps=10|schedule"):
        load_newest(make_trainer(pool, steps=20, schedule="cosine"), tmp_path)


def test_a_run_that_has_ended_goes_on_with_a_schedule_that_begins_anew(pool, tmp_path):
    ended = make_trainer(pool, steps=2, schedule="cosine")
    for _ in range(2):
        ended.step()
    save_state(ended, tmp_path, keep=1)
    with pytest.raises(CheckpointError, match="steps=2"):
        load_newest(make_trainer(pool, steps=4, schedule="cosine", restarts=(1,)), tmp_path)
    longer = make_trainer(pool, steps=4, schedule="cosine", restarts=(2,))
    assert load_newest(longer, tmp_path)
    for _ in range(2):
        longer.step()
    whole = make_trainer(pool, steps=4, schedule="cosine", restarts=(2,))
    for _ in range(4):
        whole.step()
    for name, weights in whole.network.state_dict().items():
        assert torch.equal(weights, longer.network.state_dict()[name]), name


def test_a_run_whose_heads_have_their_former_names_continues(pool):
    begun, former = make_trainer(pool), {"projection_head": "projector", "prediction_head": "predictor"}
    begun.step()
    state = begun.state_dict()
    for name, was in former.items():
        state["network"] = {key.replace(name, was): value for key, value in state["network"].items()}
    continued = make_trainer(pool)
    continued.load_state_dict(state)
    torch.testing.assert_close(continued.step(), begun.step(), rtol=0, atol=0)


def test_a_run_from_before_an_option_existed_continues_at_its_default(pool, tmp_path):
    trainer = make_trainer(pool)
    state = trainer.state_dict()
    del state["config"]["rate_fan_in"]
    make_trainer(pool).load_state_dict(state)
    with pytest.raises(CheckpointError, match="rate_fan_in=0, this one 8"):
        make_trainer(pool, rate_fan_in=8).load_state_dict(state)


def test_both_networks_start_as_the_untrained_encoder_if_asked_for(pool):
    plain, started = make_trainer(pool).network, make_trainer(pool, identity_norm=True).network
    log_mels = torch.randn(8, 1, 64, 32)  # standardized, as crops are
    expected = plain.online.encoder.eval()(log_mels)
    for branch in (started.online, started.target):
        torch.testing.assert_close(branch.encoder.eval()(log_mels), expected, rtol=1e-4, atol=1e-4)
        assert not torch.equal(branch.encoder.net[1].weight, plain.online.encoder.net[1].weight)


def test_wide_layers_of_the_encoder_have_a_lower_rate_if_asked_for():
    conv, norm, linear = module = torch.nn.Sequential(
        torch.nn.Conv1d(2, 3, 5), torch.nn.BatchNorm1d(3), torch.nn.Linear(40, 4)
    )
    assert {rate: len(parameters) for rate, parameters in by_rate(module, module, fan_in=0).items()} == {1.0: 6}
    shares = {rate: {id(p) for p in parameters} for rate, parameters in by_rate(module, module, fan_in=8).items()}
    ones = {id(p) for p in (conv.bias, norm.weight, norm.bias, linear.bias)}
    assert shares == {0.8: {id(conv.weight)}, 1.0: ones, 0.2: {id(linear.weight)}}


def test_first_step_moves_weights_by_their_rate(pool):
    def moved(**options):
        trainer = make_trainer(pool, learning_rate=1e-3, **options)
        encoder, head = (
            trainer.network.online.encoder.net[0].weight,
            trainer.network.prediction_head[3].weight,
        )  # 25 and 32 inputs
        before = encoder.detach().clone(), head.detach().clone()
        trainer.step()
        return [(now - then).abs().max().item() for now, then in zip((encoder, head), before, strict=True)]

    assert moved() == pytest.approx([1e-3, 1e-3], rel=0.01)  # Adam's first step is the rate
    assert moved(rate_fan_in=10) == pytest.approx([0.4e-3, 1e-3], rel=0.01)


def test_unreadable_state_is_named(pool, tmp_path):
    (tmp_path / "step-000000003.pt").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="none of the 1 states"):
        load_newest(make_trainer(pool), tmp_path)
    torch.save({"n_steps": 3}, tmp_path / "step-000000003.pt")
    with pytest.raises(CheckpointError, match=r"lacks config, data, .*; remove it"):
        load_newest(make_trainer(pool), tmp_path)


@pytest.mark.parametrize("damage", ["cut", "flipped", "another thing"])
def test_a_damaged_newest_state_gives_way_to_the_one_before(pool, tmp_path, damage, caplog):
    trainer = make_trainer(pool)
    for _ in range(2):
        trainer.step()
        newest = save_state(trainer, tmp_path, keep=2)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1  # in the middle of weights, where torch would not notice
    newest.write_bytes(content if damage == "flipped" else content[:-100])
    if damage == "another thing":
        torch.save([1, 2], newest)
    resumed = make_trainer(pool)
    assert load_newest(resumed, tmp_path)
    assert resumed.n_steps == 1
    assert newest.name in caplog.text


def test_only_the_newest_states_are_kept(pool, tmp_path):
    trainer = make_trainer(pool)
    for _ in range(4):
        trainer.step()
        save_state(trainer, tmp_path, keep=2)
    assert [p.name for p in states(tmp_path)] == ["step-000000003.pt", "step-000000004.pt"]


def test_training_leaves_the_callers_random_state_alone(pool):
    encoder = TinyEncoder(dropout=0.5)
    state = torch.random.get_rng_state()
    make_trainer(pool, encoder=encoder).step()
    assert torch.equal(state, torch.random.get_rng_state())


def test_loop_logs_means_over_lines_and_exports_at_the_end(pool, tmp_path):
    exported = []
    trainer = make_trainer(pool, total_steps=7, log_steps=3)
    row = train(trainer, tmp_path, lambda trainer, row: exported.append(row["step"]))
    lines = read_log(tmp_path / "log.csv")
    assert [line["step"] for line in lines] == [3, 6, 7]
    assert lines[-1]["loss"] == pytest.approx(row["loss"])
    again = make_trainer(pool, total_steps=7)
    losses = [again.step()[0].item() for _ in range(7)]
    assert lines[0]["loss"] == pytest.approx(np.mean(losses[:3]), rel=1e-5)
    assert lines[2]["loss"] == pytest.approx(losses[6], rel=1e-5)
    assert exported == [7]
    assert [p.name for p in states(tmp_path / "states")] == ["step-000000007.pt"]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_finished_run_whose_export_failed_is_exported_by_the_next_call(pool, tmp_path):
    def refuse(trainer, row):
        raise OutputError("no room")

    with pytest.raises(OutputError):
        train(make_trainer(pool, total_steps=2), tmp_path, refuse)
    exported = []
    train(
        make_trainer(pool, total_steps=2),
        tmp_path,
        lambda trainer, row: exported.append((trainer.n_steps, row["step"])),
    )
    assert exported == [(2, 2)]


def test_time_limit_stops_and_the_next_sitting_goes_on(pool, tmp_path):
    train(make_trainer(pool, total_steps=5), tmp_path, ignore, max_minutes=0)
    assert len(read_log(tmp_path / "log.csv")) == 1
    train(make_trainer(pool, total_steps=5), tmp_path, ignore)
    parts = read_log(tmp_path / "log.csv")
    train(make_trainer(pool, total_steps=5), tmp_path / "whole", ignore)
    assert [line["loss"] for line in parts] == [line["loss"] for line in read_log(tmp_path / "whole/log.csv")]


def test_lines_of_a_sitting_that_was_not_saved_are_written_once(pool, tmp_path):
    train(make_trainer(pool, total_steps=3), tmp_path, ignore)
    with open(tmp_path / "log.csv", "a") as file:
        file.write("4,1,0.1,9,9,9,9\n5,1,0.")  # the run was killed while it wrote a line
    trainer = make_trainer(pool, total_steps=5, steps=5)
    train(trainer, tmp_path, ignore)
    assert [line["step"] for line in read_log(tmp_path / "log.csv")] == [1, 2, 3, 4, 5]
    assert read_log(tmp_path / "log.csv")[3]["loss"] < 9


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
    assert [line["step"] for line in read_log(tmp_path / "log.csv")] == [1, 2][log_steps - 1 :]


def test_collapsed_embeddings_stop_the_run(pool, tmp_path):
    class Constant(TinyEncoder):
        def forward(self, x):
            return torch.ones(len(x), 16) + 0 * super().forward(x)

    with pytest.raises(TrainingError, match=r"collapsed by step 1: their spread is .*no state"):
        train(make_trainer(pool, encoder=Constant()), tmp_path, ignore)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_in_bfloat16_lowers_the_losses(pool, tmp_path):
    from pretraining import write_clips

    from hear_byols.training.presets import make_config
    from hear_byols.training.run import Hardware, pretrain

    config = make_config("byol_s_cvt", steps=30, batch_size=32, precision="bfloat16", log_steps=5)
    pretrain(config, [write_clips(tmp_path / "audio")], tmp_path / "run", hardware=Hardware("cuda"))
    lines = read_log(tmp_path / "run/log.csv")
    assert lines[-1]["loss_self_supervised"] < lines[0]["loss_self_supervised"]
