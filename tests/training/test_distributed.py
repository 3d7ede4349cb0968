"""Two real processes (gloo, CPU) compute what one computes on the same global batch.

Stated tolerance: losses of the first ten steps within 1e-4, weights after them within 1e-3 of the largest. Biases in
front of a batch norm have no effect and no gradient but rounding, which Adam turns into steps of full size: they are
left out, and so are the running means, which follow them.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from pretraining import SMALL, TinyEncoder, make_trainer, write_clips
from torch import nn

from hear_byols.errors import OptionError
from hear_byols.training.distributed import SyncBatchNorm, World, synchronize_batch_norm

TESTS = Path(__file__).resolve().parents[1]
STEPS = 10
IDLE = ("net.0.bias", "projection_head.0.bias", "prediction_head.0.bias", "running_mean")
# What each process does that trains by hand; the first one keeps the result.
STEP = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from hear_byols.training import pretrain
from hear_byols.training.distributed import end_process_group
from pretraining import make_trainer, small_pool
torch.set_num_threads(1)
pretrain.STATISTICS_CROPS = pretrain._STATISTICS_BATCH = 32
trainer = make_trainer(small_pool(), hybrid=sys.argv[3] == "hybrid", fader=0.5, identity_norm=True)
values = torch.stack([trainer.world.mean(trainer.step()) for _ in range(10)])
if trainer.world.rank == 0:
    rows = len(trainer.crops.draw(8, trainer._generator).log_mels)
    memory = trainer.views.memory.take(torch.arange(16))
    state = trainer.network.state_dict()
    result = {"values": values, "state": state, "rows": rows, "std": trainer.std, "memory": memory}
    torch.save(result, sys.argv[2])
del trainer
end_process_group()
"""
# The command, and the threads that are left when it has ended communication.
COMMAND = """
import os
import sys
import torch.distributed as dist
from hear_byols.cli.main import main
end = dist.destroy_process_group
def show_threads():
    end()
    print("threads:", *(open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")))
dist.destroy_process_group = show_threads
sys.exit(main(sys.argv[1:]))
"""


def run_two(script, folder, *arguments):
    """Start two processes as torchrun would; returns what each printed, and their exit statuses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    shared |= {"GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    outputs = [folder / f"output_{rank}.txt" for rank in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", script, *map(str, arguments)],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=output.open("w"),
            stderr=subprocess.STDOUT,
        )
        for rank, output in enumerate(outputs)
    ]
    end = time.monotonic() + 240
    while any(process.poll() is None for process in processes):
        if any(process.poll() for process in processes):  # one failed: the other may wait for it, for ever
            end = min(end, time.monotonic() + 20)
        if time.monotonic() > end:
            for process in processes:
                process.send_signal(signal.SIGABRT)  # says where it hangs
        time.sleep(0.1)
    statuses = [process.wait() for process in processes]
    return [output.read_text() for output in outputs], statuses


@pytest.mark.parametrize("kind", ["hybrid", "byols"])
def test_two_processes_equal_one(pool, tmp_path, kind):
    outputs, statuses = run_two(STEP, tmp_path, TESTS, tmp_path / "result.pt", kind)
    assert statuses == [0, 0], outputs
    two = torch.load(tmp_path / "result.pt", weights_only=True)
    assert two["rows"] == 4  # half of the batch of 8 each
    one = make_trainer(pool, hybrid=kind == "hybrid", fader=0.5, identity_norm=True)
    assert one.std == pytest.approx(two["std"], rel=1e-6)
    values = torch.stack([one.step() for _ in range(STEPS)])
    # Spread is a property of the rows that a process has seen, so it is not compared.
    torch.testing.assert_close(two["values"][:, :3], values[:, :3], rtol=1e-4, atol=1e-4, equal_nan=True)
    torch.testing.assert_close(two["memory"], one.views.memory.take(torch.arange(16)), rtol=1e-3, atol=1e-3)
    idle = IDLE if kind == "hybrid" else (*IDLE, "projection_head.3.bias")  # else only a batch norm sees it
    compared = {name: value for name, value in one.network.state_dict().items() if not name.endswith(idle)}
    assert len(compared) > 20
    for name, value in compared.items():
        if value.is_floating_point():
            largest = value.abs().max().item()
            torch.testing.assert_close(two["state"][name], value, rtol=0, atol=1e-3 * largest, msg=name)
        else:
            assert torch.equal(two["state"][name], value)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="names of threads are in /proc")
@pytest.mark.parametrize(
    ("options", "status", "message"),
    [([], 0, ""), (["--learning-rate", "1e30"], 2, "not finite")],
    ids=["finished", "failed"],
)
def test_no_thread_of_gloo_outlives_the_end_of_communication(options, status, message, tmp_path):
    """One that does is still there because something of the run is, and may later hang or abort the process."""
    audio = write_clips(tmp_path / "audio")
    run = ["--data", audio, "--output", tmp_path / "run", "--encoder", "cnn", "--steps", "3", "--quiet"]
    small = ["--set", *(f"{name}={value}" for name, value in SMALL.items())]
    outputs, statuses = run_two(COMMAND, tmp_path, "pretrain", *run, *small, *options, "--device=cpu")
    assert statuses == [status, status], outputs
    for output in outputs:
        assert message in output
        assert "gloo" not in re.search("^threads: (.+)", output, re.MULTILINE)[1]


def test_batch_norms_are_replaced_under_their_names():
    encoder = TinyEncoder().requires_grad_(False)
    expected = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
    synchronize_batch_norm(encoder, torch.device("cpu"))
    assert isinstance(encoder.net[1], SyncBatchNorm)
    assert {name: tuple(value.shape) for name, value in encoder.state_dict().items()} == expected
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    encoder.eval()
    x = torch.randn(2, 16, 4, 4)
    torch.testing.assert_close(encoder.net[1](x), nn.BatchNorm2d(16).eval()(x))


def test_a_team_divides_the_batch_evenly():
    assert [World(rank, 4).part(8) for rank in range(4)] == [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 8)]
    with pytest.raises(OptionError, match="multiple of the number of processes, got 10 and 4"):
        World(0, 4).part(10)
