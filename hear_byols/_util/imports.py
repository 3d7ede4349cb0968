"""Modules that may not be installed, or are not ours."""

from importlib import import_module
from types import ModuleType

from hear_byols.errors import HearByolsError, MissingDependencyError, OptionError

HEAR_API = ("load_model", "get_scene_embeddings", "get_timestamp_embeddings")


def require(module: str, purpose: str, extra: str = "") -> ModuleType:
    """Import an optional module, which the extra brings; ``purpose`` says what needs it, the subject of the message.

    Raises:
        MissingDependencyError: it cannot be imported; the message says how to get it.
    """
    try:
        return import_module(module)
    except (ImportError, OSError) as error:  # OSError: a library that was compiled for another torch
        name = module.partition(".")[0]
        wanted = f'"hear_byols[{extra}]"' if extra else name
        raise MissingDependencyError(f"{purpose} needs {name} ({error}): pip install {wanted}") from error


def import_hear_module(name: str) -> ModuleType:
    """Import any module with the functions of the HEAR API.

    Raises:
        OptionError: it cannot be imported, or lacks one of them.
    """
    try:
        module = import_module(name)
    except HearByolsError:
        raise
    except Exception as error:  # whatever a foreign module does when it is imported
        raise OptionError(f"the module {name!r} cannot be imported ({type(error).__name__}: {error})") from error
    missing = [function for function in HEAR_API if not callable(getattr(module, function, None))]
    if missing:
        raise OptionError(f"{name!r} is not a HEAR module: it has no {', '.join(missing)}")
    return module
