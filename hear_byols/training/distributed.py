"""What processes that train together share: their places in the batch, batch statistics, gathered crops.

A run on several processes computes what one process would on the same global batch, up to rounding: every process
draws the global batch's random numbers and keeps its part, batch statistics cover all parts (torch's own synchronized
batch norm exists on GPUs only), and past crops for mixup are gathered. Random numbers are a function of the run's seed
and the step, so that a resumed run needs no generator's state.
"""

import gc
import traceback
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

from hear_byols.errors import OptionError


@dataclass(frozen=True)
class World:
    """The processes of a run."""

    rank: int = 0  # of this process
    size: int = 1  # number of processes; with 1, nothing is communicated

    def part(self, n: int) -> slice:
        """This process's rows of a global batch of ``n``.

        Raises:
            OptionError: ``n`` cannot be divided evenly.
        """
        share, rest = divmod(n, self.size)
        if rest:
            raise OptionError(f"batch_size must be a multiple of the number of processes, got {n} and {self.size}")
        return slice(self.rank * share, (self.rank + 1) * share)

    def gather(self, rows: Tensor) -> Tensor:
        """Rows of all processes, in the order of the global batch."""
        if self.size == 1:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    def mean(self, values: Tensor) -> Tensor:
        """Mean over processes, without gradient."""
        if self.size == 1:
            return values
        values = values.detach().clone()
        dist.all_reduce(values)
        return values / self.size


ALONE = World()


@contextmanager
def process_group() -> Iterator[None]:
    """Around what processes do together: ends their communication when it is done, or has failed.

    Nothing of it may be held by a name outside, since only the very last reference to the process group, when this
    drops it, ends gloo's threads without trouble. Where a module that was trained goes later it waits for them with the
    interpreter's lock, which they may need to free a tensor, for ever; and where one is left when the interpreter ends,
    they abort the process (torch 2.11).
    """
    try:
        yield
    except BaseException as error:
        source: BaseException | None = error
        while _communicating() and source is not None:  # a run on one process keeps its variables, for debuggers
            traceback.clear_frames(source.__traceback__)
            source = source.__cause__ or source.__context__
        raise
    finally:
        if _communicating():
            gc.collect()  # what cycles hold
            dist.destroy_process_group()


def _communicating() -> bool:
    return dist.is_available() and dist.is_initialized()


class SyncBatchNorm(_BatchNorm):
    """Batch norm over the parts of all processes, on any device; state-dict names are torch's."""

    def forward(self, input: Tensor) -> Tensor:
        x = input
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        axes = [0, *range(2, x.dim())]
        shape = (1, -1, *(1 for _ in axes[1:]))
        world = dist.get_world_size()
        values = x.float()
        mean = all_reduce(values.mean(axes)) / world
        centred = values - mean.view(shape)
        variance = all_reduce(centred.square().mean(axes)) / world
        with torch.no_grad():
            count = world * x.numel() // x.shape[1]
            momentum = self.momentum or 0.0
            self.get_buffer("num_batches_tracked").add_(1)
            self.get_buffer("running_mean").lerp_(mean, momentum)
            self.get_buffer("running_var").lerp_(variance * count / (count - 1), momentum)
        normalized = centred * (variance + self.eps).rsqrt().view(shape)
        return (normalized * self.weight.view(shape) + self.bias.view(shape)).to(x.dtype)


def synchronize_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Replace every batch norm below a module by one over all processes: torch's on GPUs, else ours."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            twin = SyncBatchNorm(child.num_features, child.eps, child.momentum)
            twin.load_state_dict(child.state_dict())
            twin.requires_grad_(child.weight.requires_grad).train(child.training)
            setattr(module, name, twin)
        else:
            synchronize_batch_norm(child, device)
    return module


def seeded(generator: torch.Generator, seed: int, step: int, purpose: str = "") -> torch.Generator:
    """Seed a generator for one step, in place; returns it. Draws for different purposes are independent."""
    return generator.manual_seed(derived_seed(seed, step, purpose))


def derived_seed(seed: int, step: int, purpose: str = "") -> int:
    """A seed for one step: well mixed, so that neighbouring steps have nothing in common."""
    mixed = np.random.SeedSequence([seed, step, zlib.crc32(purpose.encode())]).generate_state(1, np.uint64)[0]
    return int(mixed >> np.uint64(1))  # torch takes signed 64-bit seeds


@dataclass(frozen=True)
class Draws:
    """Random numbers, one a crop: drawn for the batch of all processes, of which this one's part is kept."""

    n_crops: int  # of this process
    generator: torch.Generator  # in the same state in every process; on the device of the crops
    world: World = ALONE  # the processes that share the batch

    def uniform(self, low: float, high: float) -> Tensor:
        """Numbers from ``low`` to ``high`` [shape=(n_crops,)]."""
        n = self.n_crops * self.world.size
        drawn = torch.rand(n, generator=self.generator, device=self.generator.device)[self.world.part(n)]
        return drawn * (high - low) + low

    def chance(self, share: float) -> Tensor:
        """True for about ``share`` of the crops [shape=(n_crops,)]."""
        return self.uniform(0, 1) < share

    def stretch(self, scale: tuple[float, float], n: int, canvas: int) -> tuple[Tensor, Tensor]:
        """Positions on a canvas and lengths of ``scale`` times ``n``, at most the canvas; int64 [shape=(n_crops,)]."""
        size = (self.uniform(*scale) * n).long().clamp(1, canvas)
        start = (self.uniform(0, 1) * (canvas - size + 1)).long().minimum(canvas - size)
        return start, size
