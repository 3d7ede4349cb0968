"""BYOL-S audio embeddings."""
