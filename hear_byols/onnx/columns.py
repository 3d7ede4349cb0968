"""Overlapping windows in an ONNX file: the columns (steps of time) that they share are computed once.

As :mod:`hear_byols.encoders.overlap` does it in torch, but without a plan that depends on the signal: windows begin a
whole number of samples apart, so the columns that they share lie on a regular grid, and what an encoder makes of these
is a dilated convolution over the grid, whatever its length.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_byols.encoders.clstm import CLSTM
from hear_byols.encoders.cnn import AudioNTT
from hear_byols.encoders.conv_block import ConvBlock, folded
from hear_byols.encoders.multilayer import MultilayerEncoder


@dataclass(frozen=True)
class Level:
    """Where columns of windows lie; ``first`` to ``stop - 1`` of ``n`` see the signal alone, the others an edge."""

    n: int  # columns of a window
    first: int  # of those that windows share
    stop: int  # behind the last of them
    spacing: int  # of two columns in samples
    hop: int  # of two windows in samples

    @property
    def grid(self) -> int:
        """Spacing in samples of all columns that some windows share; the first one is the first window's."""
        return math.gcd(self.spacing, self.hop)

    @property
    def apart(self) -> int:
        """Steps on the grid from one column of a window to the next."""
        return self.spacing // self.grid

    @property
    def pays(self) -> bool:
        """Whether a fifth or more of the columns is spared."""
        added = self.hop // self.grid + self.n - (self.stop - self.first)
        return self.stop > self.first and added <= 0.8 * self.n

    def at(self, n_windows: Any, start: int, stop: int) -> Tensor:
        """Places on the grid of columns ``start`` to ``stop - 1`` of each window: [shape=(n_windows, n)]."""
        places = torch.arange(start - self.first, stop - self.first) * self.apart
        return torch.arange(n_windows)[:, None] * (self.hop // self.grid) + places

    def after(self, n_inputs: int, stride: int, padding: int) -> Level:
        """Of the columns that a step makes of these."""
        n = (self.n + 2 * padding - n_inputs) // stride + 1
        first, stop = -(-(self.first + padding) // stride), (self.stop + padding - n_inputs) // stride + 1
        return Level(n, first, stop, self.spacing * stride, self.hop)


@dataclass(frozen=True)
class WindowColumns:
    """Columns of the windows of clips, time on the last axis."""

    level: Level  # where they lie
    before: Tensor  # each window's own at its beginning [shape=(n_clips, n_windows, ..., level.first)]
    shared: Tensor  # the grid [shape=(n_clips, ..., n)]
    after: Tensor  # each window's own at its end [shape=(n_clips, n_windows, ..., level.n - level.stop)]

    def take(self, start: int, stop: int) -> Tensor:
        """Shared columns of each window by number: [shape=(n_clips, n_windows, ..., stop - start)]."""
        return _select(self.shared, -1, self.level.at(self.before.shape[1], start, stop)).movedim(-2, 1)

    def of_windows(self) -> Tensor:
        """All columns of each window: [shape=(n_clips, n_windows, ..., level.n)]."""
        return torch.cat([self.before, self.take(self.level.first, self.level.stop), self.after], -1)

    def map(self, function: Callable[[Tensor], Tensor]) -> WindowColumns:
        """The same of each column by itself; the function keeps the axes of clips, windows and time."""
        return WindowColumns(self.level, function(self.before), function(self.shared), function(self.after))

    @property
    def n_values(self) -> Any:
        """Of all windows of a clip."""
        return self.before.shape[1] * self.level.n * self.before[0, 0, ..., 0].numel()

    def sum(self) -> Tensor:
        """Over all columns of all windows of a clip: [shape=(n_clips,)]; columns that are shared count each time."""
        n_windows, level = self.before.shape[1], self.level
        shared = _select(self.shared.flatten(1, -2).sum(1), 1, level.at(n_windows, level.first, level.stop))
        return self.before.flatten(1).sum(1) + shared.flatten(1).sum(1) + self.after.flatten(1).sum(1)


def blocks_of(encoder: MultilayerEncoder) -> list[ConvBlock]:
    """Those whose columns windows may share, the beginning of the encoder; empty for one without steps."""
    blocks = encoder.blocks if isinstance(encoder, (AudioNTT, CLSTM)) else ()
    return [block for block in blocks if isinstance(block, ConvBlock)]


def last_level(frames: Level, encoder: MultilayerEncoder) -> Level:
    """Of the columns that the encoder's blocks make of the frames of windows."""
    for block in blocks_of(encoder):
        frames = frames.after(*_inputs(block))
    return frames


def embed_windows(frames: WindowColumns, encoder: MultilayerEncoder) -> Tensor:
    """Embed windows, equal to the encoder on each: [shape=(n_clips, n_windows, embedding_size)].

    Args:
        frames: standardized [shape=(..., n_mels, time)].
        encoder: with blocks, whose last columns' sharing pays.
    """
    columns, maxima, blocks = frames.map(lambda x: x.unsqueeze(-3)), [], blocks_of(encoder)
    for i, block in enumerate(blocks):
        columns = _through(block, columns)
        if i > 0 and encoder.layers == "multi":
            maxima.append(_rows(columns, lambda x: x.movedim(-1, -3).flatten(-2)).amax(2))

    def end(maps: Tensor) -> Tensor:  # (..., channels, mel, time) -> (..., time, size)
        rows = maps.transpose(-1, -3)  # of (mel, channels)
        for step in list(encoder.steps())[2 * len(blocks) :]:  # behind the blocks' own
            rows = step.compute(rows.flatten(0, -3)[:, None]).unflatten(0, rows.shape[:-2])
        return rows.flatten(maps.ndim - 2)

    rows = _rows(columns, end)
    vectors = encoder.pool(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
    return encoder.join(vectors, *maxima)


def _inputs(block: ConvBlock) -> tuple[int, int, int]:
    """Columns that a convolution and the pooling after it make one of, their stride and padding."""
    return block.conv.kernel_size[1] + 1, 2, 1


def _through(block: ConvBlock, columns: WindowColumns) -> WindowColumns:
    """Columns that a block makes of those before."""
    level, (n_inputs, stride, padding) = columns.level, _inputs(block)
    new = level.after(n_inputs, stride, padding)
    unused = new.first * stride - padding - level.first  # 0 or 1
    shared = _compute(block, columns.shared[..., unused * level.apart :], level.apart, new.grid // level.grid)
    stop = (new.first - 1) * stride - padding + n_inputs
    before = F.pad(torch.cat([columns.before, columns.take(level.first, stop)], -1), (padding, 0))
    start, end = new.stop * stride - padding, (new.n - 1) * stride - padding + n_inputs
    after = torch.cat([columns.take(start, level.stop), columns.after], -1)
    after = F.pad(after, (0, end - level.n))  # or cuts off a last one that is not pooled
    own = (_compute(block, part.flatten(0, 1), 1, stride) for part in (before, after))
    before, after = (part.unflatten(0, (-1, columns.before.shape[1])) for part in own)
    return WindowColumns(new, before, shared, after)


def _compute(block: ConvBlock, x: Tensor, apart: int, stride: int) -> Tensor:
    """A column for every ``stride``-th of time, of columns that lie ``apart`` steps from each other."""
    weight, bias = folded(block.conv, block.norm)
    maps = F.conv2d(x, weight, bias, padding=(1, 0), dilation=(1, apart))
    return F.relu(F.max_pool2d(maps, 2, stride=(2, stride), dilation=(1, apart)))


def _rows(columns: WindowColumns, function: Callable[[Tensor], Tensor]) -> Tensor:
    """What a function (..., time) -> (..., time, size) makes of all columns: (clips, windows, columns, size)."""
    at = columns.level.at(columns.before.shape[1], columns.level.first, columns.level.stop)
    return torch.cat([function(columns.before), _select(function(columns.shared), 1, at), function(columns.after)], 2)


def _select(x: Tensor, axis: int, at: Tensor) -> Tensor:
    return x.index_select(axis, at.flatten()).unflatten(axis, at.shape)
