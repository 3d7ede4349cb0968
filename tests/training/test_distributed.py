"""Two real processes (gloo, CPU) compute what one computes on the same global batch.

Stated tolerance: losses of the first ten steps within 1e-4, weights after them within 1e-3 of the largest. Biases in
front of a batch norm have no effect and no gradient but rounding, which Adam turns into steps of full size: they are
left out, and so are the running means, which follow them.
"""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pretraining import TinyEncoder, command, make_trainer, write_clips

import hear_byols
from hear_byols.errors import OptionError
from hear_byols.training.distributed import SyncBatchNorm, World, synchronize_batch_norm
from hear_byols.training.loop import read_log

TESTS = Path(__file__).resolve().parents[1]
STEPS = 10
needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="names of threads are in /proc")
IDLE = ("net.0.bias", "projection_head.0.bias", "prediction_head.0.bias", "running_mean")
HANGING = "import faulthandler; faulthandler.dump_traceback_later(240, exit=True)\n"  # says where it hangs
# What each process does that trains by hand; the first one keeps the result.
STEP = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from hear_byols.training import pretrain
from hear_byols.training.distributed import process_group
from hear_byols.training.pool import AudioPool
from pretraining import make_trainer, tones_and_noise
torch.set_num_threads(1)
pretrain.STATISTICS_CROPS = pretrain._STATISTICS_BATCH = 32
def train():
    trainer = make_trainer(AudioPool.from_clips(tones_and_noise()), fader=0.5)
    values = torch.stack([trainer.world.mean(trainer.step()) for _ in range(10)])
    if trainer.world.rank == 0:
        memory, state = trainer.views.memory.take(torch.arange(16)), trainer.network.state_dict()
        torch.save({"values": values, "state": state, "std": trainer.std, "memory": memory}, sys.argv[2])
with process_group():
    train()
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
            [sys.executable, "-c", HANGING + script, *map(str, arguments)],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=output.open("w"),
            stderr=subprocess.STDOUT,
        )
        for rank, output in enumerate(outputs)
    ]
    statuses = [process.wait() for process in processes]
    return [output.read_text() for output in outputs], statuses


def test_two_processes_equal_one(pool, tmp_path):
    outputs, statuses = run_two(STEP, tmp_path, TESTS, tmp_path / "result.pt")
    assert statuses == [0, 0], outputs
    two = torch.load(tmp_path / "result.pt", weights_only=True)
    one = make_trainer(pool, fader=0.5)
    assert one.std == pytest.approx(two["std"], rel=1e-6)
    values = torch.stack([one.step() for _ in range(STEPS)])
    # Spread is a property of the rows that a process has seen, so it is not compared.
    torch.testing.assert_close(two["values"][:, :3], values[:, :3], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(two["memory"], one.views.memory.take(torch.arange(16)), rtol=1e-3, atol=1e-3)
    compared = {name: value for name, value in one.network.state_dict().items() if not name.endswith(IDLE)}
    assert len(compared) > 20
    for name, value in compared.items():
        largest = value.abs().max().item()
        torch.testing.assert_close(two["state"][name], value, rtol=0, atol=1e-3 * largest, msg=name)


def arguments(folder, *options):
    """Of a short run by the command, on clips that are made here."""
    return command(write_clips(folder / "audio"), folder / "run", "--encoder=cnn", "--steps=3", *options)


def assert_no_thread_of_gloo_outlives_the_end_of_communication(output, n_processes):
    """One that does is still there because something of the run is, and may later hang or abort the process."""
    threads = re.findall("^threads: (.+)", output, re.MULTILINE)
    assert len(threads) == n_processes
    assert not any("gloo" in names for names in threads)


@needs_proc
def test_two_devices_are_two_processes(tmp_path):
    """The usual launch: the command starts the second process itself."""
    (tmp_path / "command.py").write_text(COMMAND)
    run = [sys.executable, str(tmp_path / "command.py"), *arguments(tmp_path, "--devices=2")]
    done = subprocess.run(run, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert_no_thread_of_gloo_outlives_the_end_of_communication(done.stdout, 2)
    assert [line["step"] for line in read_log(tmp_path / "run/log.csv")] == [1, 2, 3]
    provenance = hear_byols.load_model(tmp_path / "run/encoder.pth").provenance
    assert provenance["training"]["hardware"].startswith("2 ")


@needs_proc
def test_a_run_that_fails_ends_in_all_of_its_processes(tmp_path):
    outputs, statuses = run_two(COMMAND, tmp_path, *arguments(tmp_path, "--learning-rate=1e30"))
    assert statuses == [2, 2], outputs
    for output in outputs:
        assert "not finite" in output
        assert_no_thread_of_gloo_outlives_the_end_of_communication(output, 1)


def test_batch_norms_are_replaced_under_their_names():
    encoder, x = TinyEncoder().eval().requires_grad_(False), torch.randn(2, 1, 64, 32)
    expected = encoder(x)
    synchronize_batch_norm(encoder, torch.device("cpu"))
    assert isinstance(encoder.net[1], SyncBatchNorm)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    torch.testing.assert_close(encoder(x), expected)


def test_a_team_divides_the_batch_evenly():
    assert [World(rank, 4).part(8) for rank in range(4)] == [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 8)]
    with pytest.raises(OptionError, match="multiple of the number of processes, got 10 and 4"):
        World(0, 4).part(10)
