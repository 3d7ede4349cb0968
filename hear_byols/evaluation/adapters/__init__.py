"""HEAR modules around other models and simple features, to compare with."""
