"""From embeddings to answers: classifiers, events in time, search, duplicates and clusters (extra ``classify``)."""
