"""Entry points of ``torch.hub``: ``torch.hub.load("OWNER/hear_byols", "hear_byols", "cnn_hybrid")``."""

dependencies = ["torch", "numpy", "huggingface_hub", "safetensors", "soundfile", "soxr", "tqdm"]


def hear_byols(model="", **options):
    """A model, ready to embed; takes what ``hear_byols.load_model`` takes."""
    from hear_byols import load_model

    return load_model(model, **options)
