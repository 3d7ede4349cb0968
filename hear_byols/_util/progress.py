"""How far a long job is: a bar on a terminal, and elsewhere, as in the log of a cluster, a line every 30 seconds."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

_SECONDS = 30.0  # between two lines


@contextmanager
def progress(
    total: int, unit: str, *, done: int = 0, shown: bool = True, title: str = ""
) -> Iterator[Callable[[int], object]]:
    """Yield a function that is told how many units were done since it was last told; it writes to standard error.

    Args:
        total: units in all.
        unit: what is counted, in the singular.
        done: units that were there before.
        shown: whether anything is written.
        title: what it is about.
    """
    if not shown or sys.stderr.isatty():
        with tqdm(total=total, initial=done, unit=unit, desc=title or None, disable=not shown) as bar:
            yield bar.update
        return
    start = told = time.monotonic()
    first = done

    def advance(n: int) -> None:
        nonlocal done, told
        done += n
        now = time.monotonic()
        if now - told >= _SECONDS and done > first:
            told = now
            left = (now - start) / (done - first) * (total - done)
            text = f"{title}{': ' * bool(title)}{done} of {total} {unit}s, about {left:.0f} s left"
            print(text, file=sys.stderr, flush=True)

    yield advance
