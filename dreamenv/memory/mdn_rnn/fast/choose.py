"""Which fast step a model takes for so many dreams."""

from __future__ import annotations

from functools import partial

from dreamenv.memory.base import Stepper
from dreamenv.memory.mdn_rnn.fast.batched import BatchedStepper
from dreamenv.memory.mdn_rnn.fast.compiled import CompiledStepper
from dreamenv.memory.mdn_rnn.fast.single import SingleStepper
from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.memory.mdn_rnn.state import MDNRNNState
from dreamenv.memory.precision import faster_precision


def fast_stepper(memory: MDNRNN, rows: int, precision: str, compiled: bool) -> Stepper[MDNRNNState]:
    """The fast step of a model that has one (`MDNRNN.has_fast_step`); see `MemoryModel.stepper`.

    Raises:
        ConfigurationError: There is no compiler, see `CompiledStepper`.
    """
    if precision == "auto":
        precision = faster_precision(memory, rows, partial(BatchedStepper, memory), memory.action_encoder.some)
    if compiled:
        return CompiledStepper(memory, precision)
    if rows == 1 and memory.device.type == "cpu":
        return SingleStepper(memory)
    return BatchedStepper(memory, precision)
