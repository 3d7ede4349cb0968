"""What each extra adds to an installation. Writes a CSV table; run it where all extras are installed.

python benchmarks/sizes.py --output sizes.csv
"""

import argparse
import csv
import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

EXTRAS = ("", "formats", "sklearn", "search", "parquet", "classify", "map", "onnx", "all", "eval", "train")


def closure(name: str, extra: str, found: dict[str, Distribution]) -> dict[str, Distribution]:
    """All packages that a package needs, with one of its extras, by their names; ``found`` is added to."""
    for line in distribution(name).requires or ():
        need = Requirement(line)
        key = re.sub(r"[-_.]+", "-", need.name.lower())
        if key in found or (need.marker and not need.marker.evaluate({"extra": extra})):
            continue
        try:
            found[key] = distribution(key)
        except PackageNotFoundError as error:
            raise SystemExit(f"hear_byols[{extra}] needs {key}, which is not installed here") from error
        for own in ("", *need.extras):
            closure(key, own, found)
    return found


def megabytes(package: Distribution) -> float:
    """Size of a package's files on the disk."""
    files = [Path(str(file.locate())) for file in package.files or ()]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    core = closure("hear_byols", "", {})
    with open(args.output, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["extra", "packages beyond the core's", "MB"])
        for extra in EXTRAS:
            own = core if not extra else closure("hear_byols", extra, dict(core))
            added = [package for name, package in own.items() if not extra or name not in core]
            writer.writerow([f"[{extra}]" if extra else "none", len(added), f"{sum(map(megabytes, added)):.0f}"])


if __name__ == "__main__":
    main()
