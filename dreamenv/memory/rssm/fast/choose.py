"""Which fast step an RSSM takes for so many dreams."""

from __future__ import annotations

from functools import partial

from dreamenv.memory.base import Stepper
from dreamenv.memory.precision import faster_precision
from dreamenv.memory.rssm.fast.batched import BatchedStepper
from dreamenv.memory.rssm.fast.single import SingleStepper
from dreamenv.memory.rssm.model import RSSM, RSSMState


def fast_stepper(memory: RSSM, rows: int, precision: str) -> Stepper[RSSMState]:
    """The fast step; see `MemoryModel.stepper`."""
    if precision == "auto":
        precision = faster_precision(memory, rows, partial(BatchedStepper, memory), memory.action_encoder.some)
    if rows == 1 and memory.device.type == "cpu":
        return SingleStepper(memory)
    return BatchedStepper(memory, precision)
