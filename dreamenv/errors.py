"""Typed errors. Each says what was got, what is expected and, where there is one, the nearest fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# More names than these are no help in an error's one line
_MOST_NAMES = 40


class DreamEnvError(Exception):
    """Base of every error this package raises on purpose."""


class UnknownDreamError(DreamEnvError, KeyError):
    """No dream, bundle or agent of that name."""

    def __str__(self) -> str:  # KeyError would show the message's repr
        return str(self.args[0])


class MissingExtraError(DreamEnvError, ImportError):
    """An optional dependency is not installed."""


class RegistryError(DreamEnvError, ValueError):
    """A registry.yaml that does not fit its schema."""


class BundleError(DreamEnvError, ValueError):
    """A world-model bundle that is incomplete, corrupt, of a wrong hash or of a newer format."""


class EpisodeFileError(DreamEnvError, ValueError):
    """An episode file that is cut short or not an episode."""


class CollectionError(DreamEnvError, RuntimeError):
    """Collecting real experience could not go on."""


class InvalidActionError(DreamEnvError, ValueError):
    """An action outside the action space, of a wrong shape, or not finite."""


class StepError(DreamEnvError, RuntimeError):
    """`step` before `reset`, or after the episode ended."""


class SpaceMismatchError(DreamEnvError, ValueError):
    """An agent, a model and an environment whose spaces do not agree."""


class NonFiniteError(DreamEnvError, ArithmeticError):
    """A loss, gradient or state became NaN or infinite."""


class UnknownFigureError(DreamEnvError, KeyError):
    """No published figure of that name, or no such number of one."""

    def __str__(self) -> str:  # KeyError would show the message's repr
        return str(self.args[0])


class FigureListError(DreamEnvError, ValueError):
    """A list of published figures that does not fit its schema, or stored results that its runner cannot read."""


class ReproductionError(DreamEnvError, RuntimeError):
    """A published figure that cannot be made again, or whose commands failed."""


class StorageError(DreamEnvError, OSError):
    """A file that cannot be written: no space is left, or the place is not writable."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}" if self.filename else str(self.args[-1])


class FolderInUseError(DreamEnvError, RuntimeError):
    """A run's folder in which another process is at work."""


class ConfigurationError(DreamEnvError, ValueError):
    """A keyword argument outside its range or combined with one it excludes."""


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """A sentence with the nearest names, or with all of them when nothing is near and they are few."""
    names = sorted(known)
    near = difflib.get_close_matches(got, names, n=3, cutoff=0.5)
    if near:
        return "Did you mean " + " or ".join(near) + "?"
    if len(names) > _MOST_NAMES:
        return f"None of the {len(names)} known names is near."
    return "Known: " + (", ".join(names) if names else "none") + "."


def missing_extra(package: str, extra: str) -> MissingExtraError:
    """The error for an import that needs an extra of this package."""
    return MissingExtraError(f"{package} is not installed. Fix it with: pip install 'dreamenv[{extra}]'")
