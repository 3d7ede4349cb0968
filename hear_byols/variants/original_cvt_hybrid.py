"""The paper's published Hybrid BYOL-S/CvT."""

from hear_byols.variants import bind

load_model, get_scene_embeddings, get_timestamp_embeddings = bind("original_cvt_hybrid")
