"""Looking at models: similarity of layers (CKA), maps of embeddings, one file in pictures (``docs/analysis.md``)."""
