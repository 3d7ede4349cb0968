"""One importable HEAR module per named variant.

hear-eval-kit names its folders after the module, and needs no ``--model`` for these::

    python -m heareval.embeddings.runner hear_byols.variants.cvt_hybrid --tasks-dir ...
"""

import os
from collections.abc import Callable
from typing import Any

from hear_byols.hear import get_scene_embeddings, get_timestamp_embeddings, load_model


def bind(name: str, beside: str = "", **defaults: Any) -> tuple[Callable[..., Any], ...]:
    """The three HEAR functions with ``name`` and options as defaults.

    Args:
        name: a model that ``hear_byols.load_model`` knows.
        beside: a model whose embeddings follow those of ``name``, or of the path given instead of it.
        **defaults: options of ``hear_byols.load_model`` that the caller may still override.
    """

    def load_variant(model_file_path: str = "", **options: Any) -> Any:
        """Load this variant; a path replaces its weights, options replace its defaults (``hear_byols.load_model``)."""
        spec = os.fspath(model_file_path) or name
        return load_model(f"{spec}+{beside}" if beside else spec, **{**defaults, **options})

    load_variant.__name__ = "load_model"
    return load_variant, get_scene_embeddings, get_timestamp_embeddings
