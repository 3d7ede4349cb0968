"""openSMILE's ComParE 2016 functionals (paper, Tables 5 to 8, "openSMILE (OS) only"); research licence."""

from hear_byols.variants import bind

load_model, get_scene_embeddings, get_timestamp_embeddings = bind("opensmile")
