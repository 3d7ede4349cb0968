"""The pre-norm transformer block of the speech recognizers' encoders."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TransformerBlock(nn.Module):
    """Self-attention and a perceptron with GELU, each behind a layer norm and added to its input.

    ``biased`` says whether norms and the attention's layers have biases; ``turn`` encodes positions of queries and keys
    [shape=(2, n_clips, n_heads, n_frames, width // n_heads)].
    """

    def __init__(
        self, width: int, n_heads: int, *, biased: bool, turn: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.turn = turn
        self.attention_norm = nn.LayerNorm(width, bias=biased)
        self.query_key_value = nn.Linear(width, 3 * width, bias=biased)
        self.attention_out = nn.Linear(width, width, bias=biased)
        self.perceptron_norm = nn.LayerNorm(width, bias=biased)
        self.perceptron_in = nn.Linear(width, 4 * width)
        self.perceptron_out = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(n_clips, n_frames, width) -> the same shape."""
        heads = self.query_key_value(self.attention_norm(x)).unflatten(2, (3, self.n_heads, -1))
        heads = heads.permute(2, 0, 3, 1, 4)  # (3, n_clips, n_heads, n_frames, width // n_heads)
        query, key = heads[:2] if self.turn is None else self.turn(heads[:2])
        mixed = F.scaled_dot_product_attention(query, key, heads[2])
        x = x + self.attention_out(mixed.transpose(1, 2).flatten(2))
        return x + self.perceptron_out(F.gelu(self.perceptron_in(self.perceptron_norm(x))))


def outputs_of(layers: Sequence[int], x: Tensor, blocks: nn.ModuleList, norm: nn.Module) -> Tensor:
    """Outputs of these layers side by side: 0 is the input, the others are the blocks, of which the last is normalized.

    (n_clips, n_frames, width) -> (n_clips, n_frames, width a layer)
    """
    outputs = {0: x}
    for number, block in enumerate(blocks[: max(layers)], 1):
        x = block(x)
        outputs[number] = norm(x) if number == len(blocks) else x
    return torch.cat([outputs[number] for number in layers], 2)
