"""What each fast path is worth: time with it over time without it, alternating, on one thread.

    python benchmarks/speed_parts.py [--turns 7]
    python benchmarks/speed_parts.py --profile      (where the time goes instead)

Counts the processor's time of this process, so that other processes matter little. Decides what is kept.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_byols.encoders import build_encoder, clstm, cnn, conv_block, cvt, resnetish

MODULES = {"cnn": cnn, "cvt": cvt, "resnetish34": resnetish, "clstm": clstm}


def separate(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """Convolution and batch norm as two layers."""
    return norm(conv(x))


def whole(self: conv_block.ConvBlock, x: Tensor) -> Tensor:
    """A convolution block on all of its input at a time, layer by layer."""
    return F.relu(F.max_pool2d(self.norm(self.conv(x)), 2))


def contiguous(x: Tensor) -> Tensor:
    """The layout that torch makes by itself."""
    return x.contiguous()


def norm_by_var_mean(self: cvt.ChannelNorm, x: Tensor) -> Tensor:
    """The channel norm with torch's fused variance and mean."""
    var, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    return (x - mean) * (self.weight / (var.sqrt() + self.eps)) + self.bias


def attention_in_blocks(query: Tensor, key: Tensor, value: Tensor, rows: int = 256) -> Tensor:
    """Attention with the scores of a few queries at a time written out."""
    key = key.transpose(2, 3)
    blocks = [
        (block * block.shape[-1] ** -0.5 @ key).softmax(-1) @ value for block in query.contiguous().split(rows, dim=2)
    ]
    return torch.cat(blocks, dim=2)


def attention_whole(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention with all scores written out."""
    return attention_in_blocks(query, key, value, rows=query.shape[2])


def all_outputs(self: clstm.LastOutputLSTM, x: Tensor) -> Tensor:
    """The LSTM with every output of both directions."""
    return nn.LSTM.forward(self, x)[0][:, -1]


def seconds(work: Callable[[], object]) -> float:
    """The processor's time for one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def compare(name: str, batch: int, n_frames: int, patches: list, turns: int) -> float:
    """Best time of an encoder as it is over its best time with something replaced."""
    encoder = build_encoder(name).eval()
    x = torch.randn(batch, 1, 64, n_frames)
    best = {False: float("inf"), True: float("inf")}
    with torch.no_grad():
        for _ in range(turns):
            for replaced in best:
                with ExitStack() as stack:
                    for replacement in patches if replaced else []:
                        stack.enter_context(replacement())
                    best[replaced] = min(best[replaced], seconds(lambda: encoder(x)))
    return best[False] / best[True]


def profile(name: str, batch: int, n_frames: int, most: int = 8) -> str:
    """The operations of an encoder that take most of the time, with their shares."""
    encoder = build_encoder(name).eval()
    x = torch.randn(batch, 1, 64, n_frames)
    with torch.no_grad():
        encoder(x)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as record:
            encoder(x)
    events = sorted(record.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    shares = [f"{event.key.removeprefix('aten::')} {event.self_cpu_time_total / total:.0%}" for event in events[:most]]
    return ", ".join(shares)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    turns = args.turns
    torch.set_num_threads(1)
    if args.profile:
        for name, batch, n_frames in (("cvt", 20, 101), ("cnn", 20, 101), ("cvt", 1, 6001)):
            print(f"{name}, {batch} x {n_frames} frames: {profile(name, batch, n_frames)}", flush=True)
        return
    print("| fast path | encoder | input | time with it / without |\n|---|---|---|---|")
    rows = []
    for name, module in MODULES.items():
        for batch, n_frames, label in ((20, 101, "20 windows of 1 s"), (1, 501, "a clip of 5 s")):
            if name in ("cnn", "clstm"):
                blocks = [patcher(conv_block.ConvBlock, "_in_pieces", whole)]
                rows.append(("batch norm folded, blocks in pieces", name, batch, n_frames, label, blocks))
            else:
                folding = [patcher(module, "conv_norm", separate)]
                rows.append(("batch norm folded", name, batch, n_frames, label, folding))
            if name != "cvt":
                layout = [patcher(module, "channels_last", contiguous)]
                rows.append(("channels last", name, batch, n_frames, label, layout))
    windows = (20, 101, "20 windows of 1 s")
    rows.append(("norm without var_mean", "cvt", *windows, [patcher(cvt.ChannelNorm, "forward", norm_by_var_mean)]))
    for size in (windows, (1, 501, "a clip of 5 s")):
        replaced = [patcher(clstm.LastOutputLSTM, "forward", all_outputs)]
        rows.append(("only the LSTM's last output", "clstm", *size, replaced))
    for text, other in (("scores in blocks", attention_in_blocks), ("all scores", attention_whole)):
        for size in (windows, (1, 6001, "a clip of 60 s")):
            replaced = [patcher(F, "scaled_dot_product_attention", other)]
            rows.append((f"torch's attention, not {text}", "cvt", *size, replaced))
    for what, name, batch, n_frames, label, patches in rows:
        few = min(turns, 3) if n_frames > 1000 else turns
        print(f"| {what} | {name} | {label} | {compare(name, batch, n_frames, patches, few):.2f} |", flush=True)


def patcher(owner: object, name: str, value: object) -> Callable:
    """Make a fresh context that replaces an attribute."""
    return lambda: patch.object(owner, name, value)


if __name__ == "__main__":
    main()
