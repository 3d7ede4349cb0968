"""Projection and prediction heads of BYOL (Grill et al. 2020; paper, section 2 and 2.2)."""

from __future__ import annotations

from torch import nn

BYOL_PROJECTION = 256
BYOL_HIDDEN = 4096


def mlp_head(in_features: int, out_features: int, hidden: int = BYOL_HIDDEN) -> nn.Sequential:
    """Linear, batch norm, ReLU, linear: (batch, in_features) -> (batch, out_features).

    Args:
        in_features: size of the embedding (projection head) or of the projection (prediction head).
        out_features: size of the projection: 256, or 6373 for the hybrid (paper, section 2.2).
        hidden: width of the hidden layer; 4096 in BYOL.
    """
    return nn.Sequential(
        nn.Linear(in_features, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, out_features),
    )
