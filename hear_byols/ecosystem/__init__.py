"""Adapters for other projects' evaluations; each takes what ``hear_byols.load_model`` takes."""
