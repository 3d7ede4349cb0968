"""Pre-training of BYOL-S and Hybrid BYOL-S (extra ``train``). No module of the core imports this package."""
