"""The package's error family: every fault a user can cause or meet is a :class:`HearByolsError`.

Each message says what was got, what is accepted and what to do. The subclasses also derive from the built-in a
reader would expect (``ValueError``, ``OSError``, ``ImportError``), so generic handlers keep working.
"""


class HearByolsError(Exception):
    """Base class of all errors raised on purpose by this package."""


class InputError(HearByolsError, ValueError):
    """Audio that cannot be embedded: wrong rank, dtype, device, values or an unreadable file."""


class OptionError(HearByolsError, ValueError):
    """An unknown option, or a value an option does not accept."""


class CheckpointError(HearByolsError, ValueError):
    """A file that is not a checkpoint of this package or of the original, or one that contradicts itself."""


class WeightsNotFoundError(HearByolsError, FileNotFoundError):
    """Weights that are neither a path, nor shipped, nor cached, nor downloadable under the present settings."""


class DownloadError(HearByolsError, OSError):
    """A download that failed or whose content is not what the record promises. Nothing is left in the cache."""


class TaskError(HearByolsError, ValueError):
    """A task folder that is not in the HEAR format, contradicts itself, or cannot be evaluated."""


class OutputError(HearByolsError, OSError):
    """Embeddings that cannot be written: no room, no right to, or an output folder that belongs to another run."""


class TrainingError(HearByolsError, RuntimeError):
    """A run that cannot go on: a loss that is not finite, or embeddings that have collapsed. The last state is kept."""


class PublishError(HearByolsError, OSError):
    """Weights that cannot be uploaded: no token, no right to, no such repository, or no connection."""


class MissingDependencyError(HearByolsError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class AudioWarning(UserWarning):
    """Audio that was embedded, but is perhaps not what its owner thinks: channels that cancel, an end that may lack."""
