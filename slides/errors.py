"""Errors: one sentence each, that says which thing, what it is, what was wanted and what to do.

::

    HistoforensicsError
    ├── ConfigError            a setting out of range                       (ValueError)
    ├── SlideError             a slide that cannot be used
    │   ├── SlideNotFound      no file at that path                         (FileNotFoundError)
    │   ├── SlideUnreadable    not a slide, truncated, or a tile is broken  (OSError)
    │   ├── LevelError         a level that the slide lacks                 (LookupError)
    │   └── MppError           no micrometres per pixel in the slide        (ValueError)
    ├── CodecError             a codec that cannot be read or replayed      (ValueError)
    ├── PatchError             patches missing, of the wrong size or class  (ValueError)
    ├── CheckpointError        a generator's weights that cannot be used    (ValueError)
    ├── DetectorError          an unknown, broken or misused detector       (ValueError)
    ├── ExamError              an exam that cannot be built or marked       (ValueError)
    └── DownloadError          a download that failed or is not the file    (OSError)
"""

from __future__ import annotations


class HistoforensicsError(Exception):
    """Base of every error that a user's input can cause; the command line prints it as one sentence, exit code 1."""


class ConfigError(HistoforensicsError, ValueError):
    """A setting is out of range."""


class SlideError(HistoforensicsError):
    """A slide cannot be used."""


class SlideNotFound(SlideError, FileNotFoundError):
    """No file stands at the path."""


class SlideUnreadable(SlideError, OSError):
    """The file is not a slide, is truncated, or a part of it cannot be decoded."""


class LevelError(SlideError, LookupError):
    """The slide lacks the level that was asked for."""


class MppError(SlideError, ValueError):
    """The slide does not say how many micrometres a pixel is."""


class CodecError(HistoforensicsError, ValueError):
    """The slide's codec cannot be read, or cannot be replayed on other pixels."""


class PatchError(HistoforensicsError, ValueError):
    """Patches are missing, unreadable, or of the wrong size or class."""


class CheckpointError(HistoforensicsError, ValueError):
    """A generator's weights are missing, broken, unsafe or of another network."""


class DetectorError(HistoforensicsError, ValueError):
    """A detector is unknown, broken, or asked for what it cannot do."""


class ExamError(HistoforensicsError, ValueError):
    """An exam cannot be built, served or marked."""


class DownloadError(HistoforensicsError, OSError):
    """A download failed, or brought something other than the wanted file."""


def require(ok: bool, name: str, wanted: str, got: object) -> None:
    """Raise one uniform sentence unless ``ok``.

    Raises:
        ConfigError: "<name> must be <wanted>, got <got>."

    >>> require(0.0 <= 1.5 <= 1.0, "psi", "from 0 to 1", 1.5)
    Traceback (most recent call last):
        ...
    histoforensics.slides.errors.ConfigError: psi must be from 0 to 1, got 1.5.
    """
    if not ok:
        raise ConfigError(f"{name} must be {wanted}, got {got!r}.")
