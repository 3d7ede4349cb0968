"""One importable HEAR module per named variant.

hear-eval-kit names its folders after the module, and needs no ``--model`` for these::

    python -m heareval.embeddings.runner hear_byols.variants.cvt_hybrid --tasks-dir ...
"""
