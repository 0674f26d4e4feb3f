"""A world model in another process: as files that travel, and on one thread."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dreamenv.bundle import write_bundle
from dreamenv.errors import ConfigurationError
from dreamenv.memory.base import MemoryModel
from dreamenv.memory.kinds import MEMORIES
from dreamenv.memory.precision import adopt, decisions
from dreamenv.vision.base import Vision
from dreamenv.vision.kinds import VISIONS
from dreamenv.workers import Parcel
from dreamenv.world_model import WorldModel


@dataclass(frozen=True)
class PackedModel:
    """A world model, exact to the bit, for processes that see other files and know other kinds."""

    _bundle: Parcel
    _vision: type[Vision]
    _memory: type[MemoryModel[Any]]
    _kinds: tuple[str, str]
    _precisions: dict[int, str] | None

    @classmethod
    def of(cls, model: WorldModel, *, far: bool = False) -> PackedModel:
        """`model`, wherever it lies.

        `far` is for other machines: they dream in the precision that is faster here. If each measured for itself, a
        planner's returns would be rounded by where it plans.
        """
        kinds = model.vision.config()["kind"], model.memory.config()["kind"]
        with tempfile.TemporaryDirectory(prefix="dreamenv-") as folder:
            write_bundle(folder, model.as_bundle())  # which the other process reads with these classes
            bundle = Parcel.of(folder)
        precisions = None
        if far:
            with one_thread():
                precisions = decisions(model.memory)
        return cls(bundle, type(model.vision), type(model.memory), kinds, precisions)

    def unpack(self) -> WorldModel:
        """The same model on the CPU, of the same classes of V and M, whatever this process knows by their kinds."""
        with (
            VISIONS.meanwhile(self._kinds[0], self._vision),
            MEMORIES.meanwhile(self._kinds[1], self._memory),
            tempfile.TemporaryDirectory(prefix="dreamenv-") as folder,
        ):
            model = WorldModel.load(self._bundle.lay_out(Path(folder)))
        if self._precisions is not None:
            adopt(model.memory, self._precisions)
        return model


def check_on_cpu(model: WorldModel) -> None:
    """Refuse a model whose dreams workers would round otherwise.

    Raises:
        ConfigurationError: It is not on the CPU.
    """
    if model.device.type != "cpu":
        raise ConfigurationError(f"workers dream on the CPU, and the model is on {model.device}; give no workers")


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it torch works on one thread: another number of threads may round otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
