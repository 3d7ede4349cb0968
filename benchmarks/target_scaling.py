"""Where a squared error on openSMILE's features is spent, by how they are standardised: on the features of a real run.

    hear-byols pretrain --targets opensmile --data AUDIO --cache CACHE --output RUN ...
    python benchmarks/target_scaling.py CACHE/opensmile-15200-42

Statistics are measured on three quarters of the rows, the table on the rest. Prints Markdown.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from hear_byols.training.targets import FeatureStore, Standardizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", help="folder of a feature store")
    parser.add_argument("--rows", type=int, default=4000, help="read at most so many (default: 4000)")
    args = parser.parse_args()
    features = np.array(FeatureStore(args.store).features(args.rows))
    fitted, held_out = np.split(features, [3 * len(features) // 4])
    standardizer = Standardizer.fit(fitted)
    print(f"{len(features)} crops, {np.mean(~np.isfinite(features)):.4%} NaN or infinite", end=", ")
    print(f"{standardizer.n_constant} of {features.shape[1]} features constant\n")
    print("| standardised by | largest | error in the top 0.1 % of values | in the top 1 % | variance of a feature |")
    print("|--|--|--|--|--|")
    spread = fitted.std(0)
    variants = {
        "mean and deviation": (held_out - fitted.mean(0)) / np.where(spread > 0, spread, np.inf),
        "asinh, clipped (used)": standardizer(torch.from_numpy(held_out)).numpy(),
    }
    for name, z in variants.items():
        squares = np.sort(np.square(z[np.isfinite(z).all(axis=1)]).ravel())[::-1]
        shares = [squares[: len(squares) // n].sum() / squares.sum() for n in (1000, 100)]
        variances = np.square(z).mean(0)
        print(
            f"| {name} | {np.sqrt(squares[0]):.1f} | {shares[0]:.1%} | {shares[1]:.1%} "
            f"| {variances.min():.2f} to {variances.max():.1f}, median {np.median(variances):.2f} |"
        )


if __name__ == "__main__":
    main()
