"""SciPy and scikit-learn, or an error that says how to get them."""

from hear_byols.errors import MissingDependencyError

try:
    from scipy import linalg, ndimage, stats
    from sklearn import metrics
except ImportError as missing:
    raise MissingDependencyError(
        f'evaluation needs scikit-learn and more ({missing}): pip install "hear_byols[eval]"'
    ) from missing

__all__ = ["linalg", "metrics", "ndimage", "stats"]
