"""The paper's published BYOL-S/ResNetish-34."""

from hear_byols.variants import bind

load_model, get_scene_embeddings, get_timestamp_embeddings = bind("original_resnetish34_byols")
