"""SciPy and scikit-learn, or an error that says how to get them."""

from typing import TYPE_CHECKING

from hear_byols._util.imports import require

if TYPE_CHECKING:
    from scipy import linalg, ndimage, stats
    from sklearn import metrics
else:
    linalg, ndimage, stats = (require(f"scipy.{name}", "evaluation", "eval") for name in ("linalg", "ndimage", "stats"))
    metrics = require("sklearn.metrics", "evaluation", "eval")

__all__ = ["linalg", "metrics", "ndimage", "stats"]
