"""Hybrid BYOL-S/CvT and openSMILE side by side (paper, section 3.4 joins BYOL-S/CvT so); research licence."""

from hear_byols.variants import bind

load_model, get_scene_embeddings, get_timestamp_embeddings = bind("cvt_hybrid", beside="opensmile")
