"""Untrained AudioNTT CNN, a baseline."""

from hear_byols.variants import bind

load_model, get_scene_embeddings, get_timestamp_embeddings = bind("random_cnn")
