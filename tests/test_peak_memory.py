"""Peak memory is the process's own."""

import subprocess
import sys

import numpy as np
import pytest

from hear_byols._util.memory import peak_memory

MEGABYTE = 10**6


def test_it_rises_by_what_is_held_and_stays_when_it_is_freed():
    held = np.ones(2 * peak_memory(), np.uint8)  # beyond anything before
    size = held.nbytes
    assert size < peak_memory() < 2.5 * size
    del held
    assert peak_memory() > size


def test_a_child_does_not_count_what_its_parent_held():
    program = "from hear_byols._util.memory import peak_memory; print(peak_memory())"
    held = np.ones(800 * MEGABYTE, np.uint8)
    child = int(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)
    assert 5 * MEGABYTE < child < held.nbytes


@pytest.mark.skipif(sys.platform != "linux", reason="an option of glibc")
def test_a_process_that_keeps_freed_memory_does_not_ask_for_it_again():
    script = """
import resource, torch
from hear_byols._util.memory import keep_freed_memory
torch.set_num_threads(1)
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def count():
    for _ in range(20):  # the allocator settles where the block goes
        torch.ones(10_000_000)
    before = faults()
    for _ in range(10):
        torch.ones(10_000_000)
    return faults() - before
first = count()
keep_freed_memory()
print(first, count())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert after < 0.1 * before
