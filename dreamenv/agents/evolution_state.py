"""What an evolution run keeps between generations, as one file that is replaced whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from dreamenv.errors import BundleError, ConfigurationError
from dreamenv.files import parse_json, write_json
from dreamenv.schema import Strict, checked
from dreamenv.tensor_files import read_sealed, write_sealed

CHECKPOINT_FILE = "evolution.safetensors"
FORMAT_VERSION = 3
_ANEW = "Delete it, and the agent beside it, to begin anew."


@dataclass(frozen=True)
class ValidationScore:
    """Real returns of one agent on validation episodes.

    Attributes:
        mean: Mean return, in units of the real environment.
        returns: Return of each episode, in the order of its seeds.
        real_frames: Real frames these episodes consumed.
    """

    mean: float
    returns: tuple[float, ...]
    real_frames: int


@dataclass(frozen=True)
class Generation:
    """One generation. Dream scores are a candidate's returns averaged over its rollouts.

    Attributes:
        index: Counted from 1.
        dream_mean, dream_best, dream_median: Over the candidates.
        step_size: Of the optimiser, after the generation.
        validation_mean: Real validation of the optimiser's mean solution, when it was due.
        validation_best: Real validation of the generation's best candidate, when it was due.
        real_frames: Real frames consumed up to here.
    """

    index: int
    dream_mean: float
    dream_best: float
    dream_median: float
    step_size: float
    validation_mean: ValidationScore | None = None
    validation_best: ValidationScore | None = None
    real_frames: int = 0

    @property
    def validation_frames(self) -> int:
        """Real frames that this generation's own validation consumed."""
        return sum(score.real_frames for score in (self.validation_mean, self.validation_best) if score is not None)


@dataclass
class EvolutionState:
    """All that a run needs to go on: with the settings and the seed, the fitness history rebuilds the optimiser.

    Attributes:
        settings: What must be equal for a run to be continued.
        fitness: `[P]` float64 a generation.
        history: One record a generation.
        best_weights: Weights of the agent with the best validation so far.
        best_validation: Its score.
        best_generation: Its generation.
        elapsed: Seconds spent, interrupted calls included.
        precision: In which all generations dream; None until it is chosen.
    """

    settings: dict[str, Any]
    fitness: list[NDArray[np.float64]] = field(default_factory=list)
    history: list[Generation] = field(default_factory=list)
    best_weights: NDArray[np.float32] | None = None
    best_validation: ValidationScore | None = None
    best_generation: int | None = None
    elapsed: float = 0.0
    precision: str | None = None

    @property
    def real_frames(self) -> int:
        """Real frames that validation has consumed."""
        return self.history[-1].real_frames if self.history else 0

    def save(self, folder: Path) -> None:
        """Write the checkpoint, then evolution.json and ledger.json; each file is replaced atomically."""
        arrays: dict[str, NDArray[Any]] = {"fitness": np.stack(self.fitness)}
        if self.best_weights is not None:
            arrays["best_weights"] = self.best_weights
        record = {
            "settings": self.settings,
            "history": [asdict(item) for item in self.history],
            "best_validation": asdict(self.best_validation) if self.best_validation else None,
            "best_generation": self.best_generation,
            "elapsed": self.elapsed,
            "precision": self.precision,
        }
        metadata = {"format_version": str(FORMAT_VERSION), "record": json.dumps(record)}
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        write_sealed(folder / CHECKPOINT_FILE, tensors, metadata)
        write_json(folder / "evolution.json", record)
        write_json(folder / "ledger.json", {"validation": self.real_frames})

    @classmethod
    def resume(cls, folder: Path, settings: dict[str, Any]) -> EvolutionState:
        """The state of the run in `folder`, or a new one where there is none.

        Raises:
            ConfigurationError: The folder holds a run with other settings.
            BundleError: The checkpoint cannot be read.
        """
        file = folder / CHECKPOINT_FILE
        if not file.exists():
            return cls(settings)
        try:
            tensors, metadata = read_sealed(file)
        except BundleError as error:
            raise BundleError(f"{file}: not a whole evolution checkpoint ({error}). {_ANEW}") from error
        if metadata.get("format_version") != str(FORMAT_VERSION):
            raise BundleError(
                f"{file}: format_version {metadata.get('format_version')!r}, expected {FORMAT_VERSION}. "
                "Continue with the dreamenv that wrote it, or use another folder."
            )
        try:
            found = parse_json(metadata["record"])
        except (KeyError, ValueError) as error:
            raise BundleError(f"{file}: not a whole evolution checkpoint: {error!r}. {_ANEW}") from error
        record = checked(_Record, found, file)
        _refuse_other_settings(file, record.settings, settings)
        fitness = tensors.get("fitness")
        if fitness is None or fitness.ndim != 2 or len(fitness) != len(record.history):
            raise BundleError(f"{file}: fitness is not one row for each of {len(record.history)} generations. {_ANEW}")
        best = tensors.get("best_weights")
        return cls(
            settings,
            list(fitness.numpy()),
            [each.generation() for each in record.history],
            None if best is None else best.numpy(),
            None if record.best_validation is None else record.best_validation.score(),
            record.best_generation,
            record.elapsed,
            record.precision,
        )


class _Validation(Strict):
    """A `ValidationScore`."""

    mean: float
    returns: list[float]
    real_frames: NonNegativeInt

    def score(self) -> ValidationScore:
        return ValidationScore(self.mean, tuple(self.returns), self.real_frames)


class _Generation(Strict):
    """A `Generation`."""

    index: PositiveInt
    dream_mean: float
    dream_best: float
    dream_median: float
    step_size: float
    validation_mean: _Validation | None
    validation_best: _Validation | None
    real_frames: NonNegativeInt

    def generation(self) -> Generation:
        parts = {name: getattr(self, name) for name in type(self).model_fields}
        for name in ("validation_mean", "validation_best"):
            parts[name] = None if parts[name] is None else parts[name].score()
        return Generation(**parts)


class _Record(Strict):
    """What the checkpoint holds beside its tensors; so does evolution.json."""

    settings: dict[str, Any]
    history: list[_Generation]
    best_validation: _Validation | None
    best_generation: PositiveInt | None
    elapsed: NonNegativeFloat
    precision: Literal["float32", "bfloat16"]


def _workers(part: int | None) -> str:
    """What `part` says of the workers. Any number of them comes to the same; without any the batches are others."""
    return "none" if part is None else f"some, with {part} candidates a part"


def _refuse_other_settings(file: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    other = [
        f"workers: {_workers(found[name])} there, {_workers(wanted[name])} here"
        if name == "part"
        else f"{name}: {found.get(name)!r} there, {wanted.get(name)!r} here"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    ]
    if other:
        raise ConfigurationError(
            f"{file} holds a run with other settings ({'; '.join(other)}). "
            "Repeat them to continue it, or use another folder."
        )
