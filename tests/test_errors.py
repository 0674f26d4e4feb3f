"""Typed errors: all of one family, of the built-in kind a caller would expect, and fit to cross processes."""

from __future__ import annotations

import inspect
import pickle

import pytest

from dreamenv import errors
from dreamenv.errors import DreamEnvError, MissingExtraError, UnknownDreamError, did_you_mean, missing_extra

KINDS = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, DreamEnvError)
]  # fmt: skip
BUILT_IN = {
    "UnknownDreamError": KeyError,
    "MissingExtraError": ImportError,
    "UnknownFigureError": KeyError,
    "CollectionError": RuntimeError,
    "ReproductionError": RuntimeError,
    "StepError": RuntimeError,
    "NonFiniteError": ArithmeticError,
    "StorageError": OSError,
    "FolderInUseError": RuntimeError,
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_says_its_message_and_survives_a_worker(kind: type[DreamEnvError]) -> None:
    error = kind("got 1,\nexpected 'a'")
    assert str(error) == "got 1,\nexpected 'a'"
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 (this test's own bytes)
    assert type(again) is kind
    assert str(again) == str(error)
    assert isinstance(error, BUILT_IN.get(kind.__name__, Exception if kind is DreamEnvError else ValueError))


def test_there_are_errors_to_test() -> None:
    assert len(KINDS) >= 12
    assert UnknownDreamError in KINDS


def test_the_nearest_names_are_suggested() -> None:
    known = ["DreamDoom-v0", "DreamCarRacing-v0", "LatentDoom-v0", "Pendulum-v1"]
    assert did_you_mean("DreamDom-v0", known).startswith("Did you mean DreamDoom-v0 or LatentDoom-v0")
    assert did_you_mean("Pendullum", iter(known)) == "Did you mean Pendulum-v1?"
    assert did_you_mean("zzz", ["b", "a"]) == "Known: a, b."
    assert did_you_mean("zzz", []) == "Known: none."


def test_a_missing_extra_says_how_to_fix_it() -> None:
    error = missing_extra("h5py", "train")
    assert isinstance(error, MissingExtraError)
    assert str(error) == "h5py is not installed. Fix it with: pip install 'dreamenv[train]'"
