"""Hybrid BYOL-S/CNN and openSMILE side by side (paper, section 3.4); research licence."""

from hear_byols.variants import bind

load_model, get_scene_embeddings, get_timestamp_embeddings = bind("cnn_hybrid", beside="opensmile")
