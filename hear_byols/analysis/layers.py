"""The layers of an encoder under readable names, and their activations as the encoder runs."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from hear_byols.errors import OptionError

DETAILS = ("blocks", "all")
EMBEDDING = "embedding"  # the encoder's output
# One entry a step of the architecture: convolution blocks, residual blocks, parts of transformer blocks, linear layers.
_BLOCKS = re.compile(
    r"|(blocks|convs|lstm)\.\d+|fc\d?|lstm|layer\d\.\d+"  # "": the encoder
    r"|stages\.\d+(\.(embed_norm|attention|feed_forward))?"
)
# Modules whose output is the very tensor that another entry stands for.
_REPEATS = re.compile(r".*\.attention\.output|.*\.feed_forward\.contract")
_WORDS = {
    "conv": "convolution",
    "convs": "convolution",
    "conv1": "convolution 1",
    "conv2": "convolution 2",
    "bn1": "batch norm 1",
    "bn2": "batch norm 2",
    "norm": "batch norm",
    "fc": "linear",
    "fc1": "linear 1",
    "fc2": "linear 2",
    "lstm": "LSTM",
    "embed": "token embedding",
    "embed_norm": "tokens",
    "attention_norm": "attention norm",
    "feed_forward_norm": "feed-forward norm",
    "feed_forward": "feed-forward",
    "key_value": "keys and values",
    "expand": "expansion",
}


def named_layers(model: nn.Module, detail: str = "blocks") -> dict[str, nn.Module]:
    """Find the layers of an encoder under names such as ``"stage 1 / attention"``; ``"embedding"`` is its output.

    Args:
        model: from ``hear_byols.load_model``, with one of the four encoders, or a teacher.
        detail: ``"blocks"``, one layer a step of the architecture, or ``"all"``, also the modules within them: norms,
            projections, shortcuts, of which some may never be called, and so never seen by ``watching``. What an
            encoder computes in one go (activation functions, pooling, and in evaluation mode convolutions with their
            batch norms) is no layer of its own.

    Raises:
        OptionError: an unknown ``detail``, or a model without an encoder of its own (openSMILE, concatenations).
    """
    if detail not in DETAILS:
        raise OptionError(f"detail must be one of {', '.join(DETAILS)}; got {detail!r}")
    encoder: Any = getattr(model, "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise OptionError(
            f"{type(model).__name__} has no encoder whose layers could be compared; name one encoder, such as "
            "cvt_hybrid, and the parts of a concatenation one at a time"
        )
    # A list of modules is never called itself.
    modules = {path: module for path, module in encoder.named_modules() if not isinstance(module, nn.ModuleList)}
    passive = (nn.Sequential, nn.Identity, nn.Dropout)
    if detail == "blocks":
        chosen = [path for path in modules if _BLOCKS.fullmatch(path)]
    else:
        chosen = [path for path, own in modules.items() if not (isinstance(own, passive) or _REPEATS.fullmatch(path))]
    return {readable_name(path): modules[path] for path in chosen}


def readable_name(path: str) -> str:
    """Turn a module's path within an encoder, such as ``stages.0.attention``, into ``stage 1 / attention``."""
    if path in ("conv1", "bn1"):  # ResNetish-34
        return "stem / " + {"conv1": "convolution", "bn1": "batch norm"}[path]
    if re.fullmatch(r"stages\.\d+", path):
        path += ".output"
    path = re.sub(r"^layer(\d)\.(\d+)", lambda match: f"stage {match[1]}.block {int(match[2]) + 1}", path)
    path = re.sub(r"^(convs|lstm)\.(\d+)", lambda match: f"{_WORDS[match[1]]} {int(match[2]) + 1}", path)
    path = re.sub(r"^(stage|block)s\.(\d+)", lambda match: f"{match[1]} {int(match[2]) + 1}", path)
    path = path.replace("downsample.0", "shortcut.conv").replace("downsample.1", "shortcut.norm")
    return " / ".join(_WORDS.get(part, part) for part in path.split(".")) or EMBEDDING


@contextmanager
def watching(layers: dict[str, nn.Module], take: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Hand each layer's detached activation [shape=(batch, ...)] to ``take(name, activation)``, and keep none."""

    def hand_over(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        steps = output[0] if isinstance(output, tuple) else output  # an LSTM's last states stand behind its steps
        take(name, steps.detach())

    handles = [module.register_forward_hook(partial(hand_over, name)) for name, module in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
