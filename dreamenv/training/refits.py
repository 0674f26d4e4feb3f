"""Fitting a memory again and again to transitions that come in while an agent learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from dreamenv.kinds import Register
from dreamenv.training.transitions import Transitions


class Refit(Protocol):
    """Fits a memory in place, from the weights it has."""

    def __call__(
        self, memory: Any, transitions: Transitions, options: Mapping[str, Any], *, seed: int
    ) -> dict[str, float]:
        """Scalars for the log.

        Args:
            memory: Of the kind that this refit is registered for.
            transitions: All real ones so far.
            options: By name.
            seed: Of what the fit draws.

        Raises:
            ConfigurationError: Too few transitions, or unknown options.
            NonFiniteError: A loss became NaN or infinite.
        """


# By the kind of memory, as in its `config()`; packages name theirs in the entry-point group `dreamenv.refit`
REFITS: Register[Refit] = Register(
    "refit", {"probabilistic_ensemble": "dreamenv.training.recipes.fit_ensemble:refit_ensemble"}
)
