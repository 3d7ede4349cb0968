"""The paper's published BYOL-S with the default CNN."""

from hear_byols.variants import bind

load_model, get_scene_embeddings, get_timestamp_embeddings = bind("original_cnn_byols")
