"""Reading state dicts of the original implementation: its parameter names and ours.

The published files are bare state dicts, recognized by their keys. The names on the left are interface facts of those
files; values are taken over unchanged, only ``ChannelNorm``'s gain and bias lose their singleton axes.
"""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from hear_byols.config import EncoderConfig
from hear_byols.errors import CheckpointError


def _blocks(name: str, n: int) -> list[tuple[str, str]]:
    """Convolution, norm, activation and pooling stand one after the other in the original's list of this name."""
    parts = ((0, "conv"), (1, "norm"))
    return [(rf"{name}\.{4 * i + at}\.", f"blocks.{i}.{part}.") for i in range(n) for at, part in parts]


# Per encoder, one after the other: (the original's prefix, ours). What is not here has one name.
_RENAMES: dict[str, Sequence[tuple[str, str]]] = {
    "cnn": [*_blocks("features", 3), (r"fc\.0\.", "fc1."), (r"fc\.3\.", "fc2.")],
    "clstm": [*_blocks("conv", 2), (r"bilstm\.", "lstm."), (r"fc_final\.0\.", "fc.")],
    "cvt": (
        (r"layers\.(\d)\.0\.", r"stages.\1.embed."),
        (r"layers\.(\d)\.1\.", r"stages.\1.embed_norm."),
        (r"layers\.(\d)\.2\.layers\.0\.0\.norm\.", r"stages.\1.attention_norm."),
        (r"layers\.(\d)\.2\.layers\.0\.0\.fn\.to_q\.net\.", r"stages.\1.attention.query."),
        (r"layers\.(\d)\.2\.layers\.0\.0\.fn\.to_kv\.net\.", r"stages.\1.attention.key_value."),
        (r"layers\.(\d)\.2\.layers\.0\.0\.fn\.to_out\.0\.", r"stages.\1.attention.output."),
        (r"layers\.(\d)\.2\.layers\.0\.1\.norm\.", r"stages.\1.feed_forward_norm."),
        (r"layers\.(\d)\.2\.layers\.0\.1\.fn\.net\.0\.", r"stages.\1.feed_forward.expand."),
        (r"layers\.(\d)\.2\.layers\.0\.1\.fn\.net\.3\.", r"stages.\1.feed_forward.contract."),
        (r"(.*(?:query|key_value)\.)0\.", r"\1depthwise."),
        (r"(.*(?:query|key_value)\.)1\.", r"\1norm."),
        (r"(.*(?:query|key_value)\.)2\.", r"\1pointwise."),
        (r"(.*_norm)\.g$", r"\1.weight"),
        (r"(.*_norm)\.b$", r"\1.bias"),
    ),
}
# A key that only this encoder has, with the dimension of it that tells the embedding size.
_SIGNATURES = {
    "cnn": "fc.3.weight",
    "resnetish34": "layer4.2.bn2.weight",
    "clstm": "fc_final.0.weight",
    "cvt": "layers.2.2.layers.0.1.fn.net.3.weight",
}


def recognize(state: Mapping) -> EncoderConfig | None:
    """Tell which encoder of the original a state dict belongs to, or None if it is none of them."""
    for name, key in _SIGNATURES.items():
        value = state.get(key)
        if isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] > 0:
            rows = value.shape[0]
            return EncoderConfig(name, rows if name in ("cnn", "clstm") else 2048)
    return None


def strip_wrapping(data: Mapping) -> Mapping:
    """Undo what files in circulation wrap around the dict: a ``state_dict`` key and the encoder's prefix.

    Entries without the prefix (heads of the pre-training, for example) are left out.

    Raises:
        CheckpointError: several prefixes hold an encoder each.
    """
    state = data["state_dict"] if isinstance(data.get("state_dict"), Mapping) else data
    names = [f".{name}" for name in state if isinstance(name, str)]
    prefixes = sorted({x[1 : -len(key)] for key in _SIGNATURES.values() for x in names if x.endswith(f".{key}")})
    if not prefixes or "" in prefixes:
        return state
    if len(prefixes) > 1:
        raise CheckpointError(
            f"the state dict holds several encoders, under {prefixes}; save the one to use as a state dict of its own"
        )
    return {str(name).removeprefix(prefixes[0]): x for name, x in state.items() if str(name).startswith(prefixes[0])}


def convert(state: Mapping[str, Tensor], encoder: str) -> dict[str, Tensor]:
    """Rename a state dict of the original to this package's parameter names.

    Names that match no rule are kept as they are, so that strict loading reports them.
    """
    converted = {}
    for key, value in state.items():
        # (1, C, 1, 1) -> (C,) for a channel norm's gain and bias; strict loading reports any other shape.
        if key.endswith((".g", ".b")) and value.ndim == 4 and value.shape[0] == value.shape[2] == value.shape[3] == 1:
            value = value[0, :, 0, 0]
        for theirs, ours in _RENAMES.get(encoder, ()):
            key = re.sub(f"^{theirs}", ours, key)
        converted[key] = value
    return converted
