"""A classifier that was loaded from a file and is fitted again says in its new file which encoder it needs."""

import numpy as np
from made_sounds import MODEL

from hear_byols.answers.classifier import Classifier


def test_a_loaded_classifier_can_be_fitted_and_kept_again(sounds, tmp_path):
    paths = sorted(sounds.rglob("*.wav"))
    labels = [path.parent.name for path in paths]
    once, again = tmp_path / "once.hbc", tmp_path / "again.hbc"
    Classifier(MODEL).fit(paths, labels).save(once)
    Classifier.load(once).fit(paths, labels).save(again)
    first, second = (Classifier.load(path).predict_proba(paths) for path in (once, again))
    np.testing.assert_array_equal(first, second)
