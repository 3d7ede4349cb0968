"""Hybrid BYOL-S/CNN with windows of 0.5 s (paper, Table 9)."""

from hear_byols.variants import bind

load_model, get_scene_embeddings, get_timestamp_embeddings = bind("cnn_hybrid", frame_ms=500)
