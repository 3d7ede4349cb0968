"""How much memory this process has held, and whether it keeps what it frees."""

import ctypes
import sys
from functools import cache
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_UNLIMITED = 1 << 62
_GROUPS = (  # control groups, version 2 and 1: limit, use, and what of it is files that can be dropped
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # options of mallopt (malloc.h)


def peak_memory() -> int:
    """Most bytes that this process held at a time so far; 0 where the system does not tell (Windows).

    On Linux this is its own high-water mark: the resource usage that other systems are asked for would there begin at
    what the parent held when it started the process.
    """
    if _STATUS.exists():
        lines = _STATUS.read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def available_memory() -> int:
    """Bytes that this process can still take before the system ends some process; 2**62 where it does not tell.

    On Linux: what is free or can be freed, and no more than the control group's limit leaves.
    """
    try:
        fields = dict(line.split()[:2] for line in Path("/proc/meminfo").read_text().splitlines())
        free = 1024 * int(fields["MemAvailable:"])
    except (OSError, KeyError, ValueError):
        return _UNLIMITED
    for folder, limit, usage, cached in _GROUPS:
        try:
            statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            used = int((folder / usage).read_text()) - int(statistics[cached])
            free = min(free, max(0, int((folder / limit).read_text()) - used))
        except (OSError, KeyError, ValueError):  # no such group, or no limit ("max")
            continue
    return free


@cache
def expect_large_blocks() -> None:
    """Let the C library see once that a block of nearly 32 MB comes and goes.

    glibc keeps up to twice the largest block that was freed so far, of those below 32 MB, and gives what is beyond back
    to the system: until then the memory of each batch may come anew as pages that have to be cleared, a fifth of the
    time of timestamps of a CvT. The block itself is never touched.
    """
    torch.empty(32 * 2**20 - 2**16, dtype=torch.uint8, device="cpu")


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, where the C library is glibc; elsewhere nothing changes.

    By default large blocks go back to the system at once, and come again as pages that have to be cleared: a quarter of
    the time of a training step on a CPU. For processes of our own only, since it holds for everything in them.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**28)):
            mallopt(option, value)
