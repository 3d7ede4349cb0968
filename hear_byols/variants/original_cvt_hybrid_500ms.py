"""The paper's published Hybrid BYOL-S/CvT with windows of 0.5 s (Table 9)."""

from hear_byols.variants import bind

load_model, get_scene_embeddings, get_timestamp_embeddings = bind("original_cvt_hybrid", frame_ms=500)
