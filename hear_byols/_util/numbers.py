"""Numbers as options: numpy's are numbers too."""

import dataclasses
import numbers
from typing import Any

from hear_byols.errors import OptionError


def plain(value: Any) -> Any:
    """Python's own int or float for a number of any kind; anything else, truth values too, as it is."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def plain_fields(record: Any) -> None:
    """Make the numbers in a frozen dataclass Python's own."""
    for field in dataclasses.fields(record):
        object.__setattr__(record, field.name, plain(getattr(record, field.name)))


def positive_count(name: str, value: Any) -> int | None:
    """A positive integer, or None.

    Raises:
        OptionError: anything else.
    """
    value = plain(value)
    if value is not None and (type(value) is not int or value < 1):
        raise OptionError(f"{name} must be a positive integer or None, got {value!r}")
    return value
