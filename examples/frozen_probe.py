"""Classify sounds with scikit-learn on frozen embeddings.

The model turns every clip into a vector; a logistic regression on the standardized vectors does the rest. Without
``--data`` the script makes its own audio and runs in seconds::

    python examples/frozen_probe.py
    python examples/frozen_probe.py --data FOLDER       # FOLDER/<class>/*.wav, any rate, length and channels
    python examples/frozen_probe.py --model opensmile   # or cvt_hybrid+opensmile, a checkpoint ...

Needs ``pip install "hear_byols[sklearn]"``. It prints the accuracy on the training clips and on the held-out 30 %.
"""

import argparse

import numpy as np
from example_data import find_files, synthesize
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hear_byols.sklearn import EmbeddingTransformer


def main() -> None:
    """Train and test a probe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="FOLDER", help="audio in one folder a class; by default made here")
    parser.add_argument("--model", default="", help="as in hear_byols.load_model; by default the default model")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    clips, labels = find_files(args.data) if args.data else synthesize()
    vectors = EmbeddingTransformer(args.model, device=args.device, on_error="skip").transform(clips)
    read = np.isfinite(vectors).all(1)  # a file that cannot be read is named in a warning
    vectors, labels = vectors[read], labels[read]
    train, test, train_labels, test_labels = train_test_split(
        vectors, labels, test_size=0.3, stratify=labels, random_state=0
    )
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    probe.fit(train, train_labels)
    print(f"{len(vectors)} clips of the classes {', '.join(probe.classes_)}")
    print(f"training accuracy: {probe.score(train, train_labels):.3f}")
    print(f"test accuracy: {probe.score(test, test_labels):.3f}")


if __name__ == "__main__":
    main()
