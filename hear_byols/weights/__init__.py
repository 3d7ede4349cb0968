"""Weights: records of what there is, files found and downloaded, checkpoints read and written."""
