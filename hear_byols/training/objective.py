"""BYOL and hybrid objectives (paper, section 2 and equation 1)."""

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_byols.encoders.multilayer import MultilayerEncoder

BYOL_PROJECTION = 256


class Outputs(NamedTuple):
    """What :class:`Byol` computes; rows are the first views followed by the second views."""

    embeddings: Tensor  # of the online encoder, without gradient [shape=(2 * batch, embedding_size)]
    projections: Tensor  # of the online projection head [shape=(2 * batch, projection_size)]
    predictions: Tensor  # of the prediction head, same shape
    targets: Tensor  # the target's projections of the *other* view, without gradient, same shape


def self_supervised_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """L_ss: mean of 2 - 2 cos, the squared distance of the normalized vectors (Grill et al. 2020, equation 2).

    Both are [shape=(n, size)]; no gradient flows into the targets. The scalar, from 0 (same direction) to 4, is the
    symmetrized loss if the rows are both directions of every pair.
    """
    return (2 - 2 * F.cosine_similarity(predictions, targets.detach(), dim=-1)).mean()


def supervised_loss(projections: Tensor, features: Tensor) -> Tensor:
    """L_sup: mean squared error against standardized hand-crafted features (paper, section 2.2).

    The paper leaves open which output of the online network is meant. Here it is the projection head's: the target's
    projections then come to predict the features too, so both losses pull the same way. The prediction head's direction
    cannot be that of the features and of an unrelated projection.

    Projections are of both views [shape=(2 * batch, size)], features of the crops behind them [shape=(batch, size)].
    The scalar is 1 for projections of 0 if the features have unit variance.
    """
    return (projections.unflatten(0, (2, len(features))) - features).square().mean()


def mlp_head(in_features: int, out_features: int, hidden: int) -> nn.Sequential:
    """A head of BYOL: (batch, in_features) -> (batch, out_features), 256 or 6373 (paper, section 2.2)."""
    return nn.Sequential(
        nn.Linear(in_features, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, out_features),
    )


class ProjectionNetwork(nn.Module):
    """Encoder and projection head, whose hidden layer has the width ``hidden``."""

    def __init__(self, encoder: MultilayerEncoder, projection_size: int, hidden: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection_head = mlp_head(encoder.embedding_size, projection_size, hidden)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings and projections of log-mels [shape=(batch, 1, mel, time)]."""
        embeddings = self.encoder(x)
        return embeddings, self.projection_head(embeddings)


class Byol(nn.Module):
    """Online encoder and heads, and the target that follows them (paper, figure 1).

    Both networks run in train mode, each with the batch statistics of its own activations, on the two views of a batch
    together. The target starts as a copy. Its batch-norm buffers are averaged like its parameters (the original leaves
    them out), so it is a complete network at every moment. The hybrid's projections are as many as its features.
    """

    def __init__(self, encoder: MultilayerEncoder, projection_size: int, hidden: int) -> None:
        super().__init__()
        self.online = ProjectionNetwork(encoder, projection_size, hidden)
        self.prediction_head = mlp_head(projection_size, projection_size, hidden)
        self.target = copy.deepcopy(self.online).requires_grad_(False)

    def forward(self, first: Tensor, second: Tensor) -> Outputs:
        """Predict each view's target projection from the other view of the same crops [shape=(batch, 1, mel, time)]."""
        embeddings, projections = self.online(torch.cat([first, second]))
        predictions = self.prediction_head(projections)
        with torch.no_grad():
            _, other = self.target(torch.cat([second, first]))
        return Outputs(embeddings.detach(), projections, predictions, other)


@torch.no_grad()
def update_momentum(target: nn.Module, online: nn.Module, decay: float) -> None:
    """Move the target, in place, towards the online network: t <- decay * t + (1 - decay) * o.

    Floating-point buffers (batch-norm statistics) are averaged too; integer buffers (batch counts) are copied.
    """
    pairs = list(zip(target.state_dict().values(), online.state_dict().values(), strict=True))
    floats = [(t, o) for t, o in pairs if t.is_floating_point()]
    torch._foreach_lerp_([t for t, _ in floats], [o for _, o in floats], 1 - decay)  # pyright: ignore
    for t, o in pairs:
        if not t.is_floating_point():
            t.copy_(o)


def embedding_spread(embeddings: Tensor) -> Tensor:
    """How far embeddings [shape=(n, size)] are from collapse: sqrt(size) times the mean deviation of unit vectors.

    The scalar is 0 if all directions are the same, about 1 if they are uniform on the sphere.
    """
    return F.normalize(embeddings.float(), dim=1).std(dim=0).mean() * embeddings.shape[1] ** 0.5
