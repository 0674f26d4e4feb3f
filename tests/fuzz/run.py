"""Damage, read, and count what became of it."""

from __future__ import annotations

import resource
import signal
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from types import FrameType

import numpy as np

from dreamenv.errors import DreamEnvError
from tests.fuzz.subjects import Subject

OUTCOMES = ("typed", "harmless", "another", "untyped", "hung")
_SECONDS = 20


class _HungError(BaseException):
    pass


@dataclass
class Outcomes:
    """What became of the damaged inputs of one kind.

    Attributes:
        counts: By outcome: "typed" (an error of the package), "harmless" (read as if whole), "another" (read as
            something else), "untyped" (any other error) and "hung" (more than twenty seconds).
        bad: What must not be: reports of untyped errors, hangs, and other content in spite of a sum.
        slowest: Seconds.
        grown: Megabytes by which the process has grown.
    """

    counts: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    slowest: float = 0.0
    grown: float = 0.0


def fuzz(subject: Subject, inputs: int, seed: int) -> Outcomes:
    """Damage `subject` `inputs` times, each time from whole files."""
    rng = np.random.default_rng(seed)
    whole = {file: file.read_bytes() for file in subject.files}
    expected = repr(subject.read())
    outcomes = Outcomes()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(inputs):
        file = subject.files[int(rng.integers(len(subject.files)))]
        for each, content in whole.items():
            each.parent.mkdir(exist_ok=True)
            each.write_bytes(content)
        subject.damage(file, rng)
        began = time.monotonic()
        outcome, report = _outcome(subject, expected)
        outcomes.slowest = max(outcomes.slowest, time.monotonic() - began)
        outcomes.counts[outcome] += 1
        if outcome in ("untyped", "hung") or (outcome == "another" and subject.guarded):
            outcomes.bad.append(f"input {number} ({file.name}, seed {seed}): {outcome}: {report}")
    for each, content in whole.items():
        each.write_bytes(content)
    outcomes.grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return outcomes


def _outcome(subject: Subject, expected: str) -> tuple[str, str]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise _HungError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = repr(subject.read())
    except DreamEnvError as error:
        return "typed", str(error)
    except _HungError:
        return "hung", ""
    except Exception as error:
        return "untyped", f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return ("harmless" if found == expected else "another"), found[:100]
