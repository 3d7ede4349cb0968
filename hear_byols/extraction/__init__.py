"""Embeddings of many files: finding and decoding them, writing the results, on one machine or on many (Ray)."""
