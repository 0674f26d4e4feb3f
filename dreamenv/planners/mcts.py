"""Monte Carlo tree search in the dream, for Discrete actions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.errors import ConfigurationError, NonFiniteError
from dreamenv.noise.base import Noise, as_noise
from dreamenv.noise.branching import RowNoise
from dreamenv.planners.arguments import (
    check_count,
    check_discount,
    check_positive,
    check_rollout,
    checked_discrete,
)
from dreamenv.planners.base import Guide, Plan, TerminalValue
from dreamenv.planners.gumbel import Gumbel, gumbel_numbers
from dreamenv.planners.tree import PUCT, Floats, Integers, Outcome, SearchTree, Selection, search
from dreamenv.world_model import WorldModel, check_temperature

# Features `[R, F]` to chances of the n actions `[R, n]`, rows sum to 1.
Prior = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class MCTS:
    """Grows a tree of dreams by `PUCT` and takes the action that was tried most often at its root, or by `Gumbel`.

    A node is `particles` dreams of the same actions, weighted by their chances to have come so far. It is sampled once,
    when it is opened, and its value is the mean return of going on at random from there (Kocsis & Szepesvári 2006,
    "Bandit based Monte-Carlo planning"), or what `terminal_value` says. One call costs about simulations ·
    (action_repeat + rollout) calls of `imagine`, each over B · particles rows.

    Attributes:
        simulations: Nodes that each tree is given.
        horizon: Dreamed steps looked ahead, in the tree and behind it together; rounded up to whole actions.
        rollout: Most dreamed steps of random actions behind a new node; None goes on to the horizon, 0 dreams none and
            leaves it to a value what a node is worth.
        particles: Dreams a node.
        action_repeat: Dreamed steps for which the search holds an action.
        discount: γ per dreamed step.
        temperature: Of the dream; None takes the model's own.
        exploration: c₁ of PUCT: the larger, the wider.
        gumbel: Choose as `Gumbel` does, which suits few simulations and a good prior, in place of `PUCT`.
        considered: Most actions that Gumbel's root considers.
        gumbel_noise: Of Gumbel's root: 1 explores as the prior does, 0 takes what it holds to be best.
        prior: Chances of the actions in features; None takes the memory's own prior, and equal chances where it has
            none.
        terminal_value: What features are worth where dreaming stops; None takes the memory's own value, and nothing
            where it has none.
    """

    scheme: ClassVar[str] = "mcts"

    simulations: int = 32
    horizon: int = 12
    rollout: int | None = None
    particles: int = 4
    action_repeat: int = 1
    discount: float = 0.99
    temperature: float | None = None
    exploration: float = 1.25
    gumbel: bool = False
    considered: int = 16
    gumbel_noise: float = 1.0
    prior: Prior | None = None
    terminal_value: TerminalValue | None = None

    def __post_init__(self) -> None:
        """
        Raises:
            ConfigurationError: A number out of range.
        """
        check_count(
            simulations=self.simulations,
            horizon=self.horizon,
            particles=self.particles,
            action_repeat=self.action_repeat,
            considered=self.considered,
        )
        check_discount(self.discount)
        if not (math.isfinite(self.gumbel_noise) and self.gumbel_noise >= 0):
            raise ConfigurationError(f"gumbel_noise must be a finite number of at least 0, got {self.gumbel_noise!r}")
        check_positive(exploration=self.exploration)
        check_temperature(self.temperature)
        check_rollout(self.rollout, self.horizon)

    @property
    def length(self) -> int:
        """How many actions a plan holds: `action_repeat` times the same one."""
        return self.action_repeat

    def plan(
        self,
        world_model: WorldModel,
        state: Any,
        *,
        noise: torch.Generator | Noise,
        warm: Tensor | None = None,
    ) -> Plan:
        """Plans for the B rows of a memory state; `value` is the mean return of the searches, `warm` is not used.

        Raises:
            ConfigurationError: Actions that are not Discrete, or a rollout of 0 where nothing gives a value.
            NonFiniteError: A dreamed reward or value that is NaN or infinite.
        """
        noise = as_noise(noise)
        space = checked_discrete(world_model.action_space, self.scheme)
        selection = self._selection(len(state[0]), int(space.n), noise)
        tree = self._grow(world_model, state, selection, noise)
        action = torch.from_numpy(selection.best(tree) + int(space.start)).to(world_model.device)
        actions = action.unsqueeze(1).expand(-1, self.action_repeat)
        value, policy = (
            torch.from_numpy(found.copy()).to(world_model.device) for found in (tree.root_value, selection.policy(tree))
        )
        return Plan(action, actions, value, self._nothing(world_model, len(action)), policy)

    def search(self, world_model: WorldModel, state: Any, *, noise: torch.Generator | Noise) -> SearchTree:
        """The trees of the B rows of a memory state; arguments and errors as `plan`."""
        noise = as_noise(noise)
        space = checked_discrete(world_model.action_space, self.scheme)
        return self._grow(world_model, state, self._selection(len(state[0]), int(space.n), noise), noise)

    @torch.no_grad()
    def _grow(self, world_model: WorldModel, state: Any, selection: Selection, noise: Noise) -> SearchTree:
        return search(
            _DreamTree(self, world_model, state, noise),
            simulations=self.simulations,
            depth=math.ceil(self.horizon / self.action_repeat),
            selection=selection,
        )

    def _selection(self, rows: int, actions: int, noise: Noise) -> Selection:
        if not self.gumbel:
            return PUCT(self.exploration)
        numbers = np.zeros((rows, actions))
        if self.gumbel_noise > 0:
            numbers = self.gumbel_noise * gumbel_numbers(noise.uniform(rows, actions).double().cpu().numpy())
        return Gumbel(numbers, self.simulations, self.considered)

    def check_actions(self, action_space: gym.Space[Any]) -> None:
        """Refuse actions that are not Discrete.

        Raises:
            ConfigurationError: Such actions.
        """
        checked_discrete(action_space, self.scheme)

    def cold(self, world_model: WorldModel, rows: int) -> Tensor:
        """`[rows, 0, 0]`: every search begins from nothing. Raises ConfigurationError as `plan`."""
        checked_discrete(world_model.action_space, self.scheme)
        if self.rollout == 0 and self.terminal_value is None:
            blank = torch.zeros(1, *world_model.observation_space("state").shape, device=world_model.device)
            with torch.no_grad():
                self.worth(world_model, world_model.memory_state(blank))
        return self._nothing(world_model, rows)

    def _nothing(self, world_model: WorldModel, rows: int) -> Tensor:
        return torch.zeros(rows, 0, 0, device=world_model.device)

    def worth(self, world_model: WorldModel, state: Any) -> Tensor | None:
        """`[R]`, what comes behind memory states `[R]`, by `terminal_value` or else the memory's own value; None where
        random steps alone say it.

        Raises:
            ConfigurationError: A rollout of 0, and nothing gives a value.
        """
        memory = world_model.memory
        value = memory.value(state) if self.terminal_value is None else self.terminal_value(memory.features(state))
        if value is None and self.rollout == 0:
            raise ConfigurationError(
                f"rollout=0 leaves it to a value what a node is worth, and {type(memory).__name__} has learned none. "
                "Leave rollout out (random steps then say it), search with guide= and an agent of `dreamenv distill` "
                "or `dreamenv train-agent`, "
                "or take a model of the recipe 'value_equivalent'."
            )
        return value

    def guided(self, guide: Guide) -> MCTS:
        """The same search with a guide's chances as prior, and its values in place of random steps."""
        return replace(self, prior=guide.chances, terminal_value=guide.value, rollout=0)

    def shifted(self, world_model: WorldModel, proposal: Tensor, steps: int) -> Tensor:
        """`proposal` itself."""
        return proposal


class _DreamTree:
    """The dreams of B trees: each node holds `[B * P]` memory states and their weights `[B, P]`."""

    def __init__(self, planner: MCTS, world_model: WorldModel, state: Any, noise: Noise) -> None:
        space: spaces.Discrete = checked_discrete(world_model.action_space, planner.scheme)
        self.rows, self.actions = len(state[0]), int(space.n)
        self._start = int(space.start)
        self._planner, self._model, self._noise = planner, world_model, noise
        self._temperature = world_model.temperature if planner.temperature is None else planner.temperature
        self._device = world_model.device
        self._step = world_model.memory.stepper(self.rows * planner.particles)
        state = world_model.memory.branch(state, planner.particles, noise=noise)
        self._dreams = torch.arange(self.rows * planner.particles, device=self._device)
        nodes = planner.simulations + 1
        self._states = type(state)(*(part.new_empty(nodes, *part.shape) for part in state))
        self._weights = torch.zeros(nodes, self.rows, planner.particles, dtype=torch.float64, device=self._device)
        self._keep(0, state, torch.full_like(self._weights[0], 1 / planner.particles))

    def root(self) -> tuple[Floats, Floats]:
        nothing = np.zeros(self.rows, np.int64)
        state, weight = self._recall(nothing)
        value = self._evaluate(state, weight, self._rollout_steps(nothing), self._noise_of_node()).cpu().numpy()
        self._check_finite(value)
        return value, self._prior(state).cpu().numpy()

    def open(
        self, node: int, parent: Integers, action: Integers, depth: Integers, wanted: NDArray[np.bool_]
    ) -> Outcome:
        planner, noise = self._planner, self._noise_of_node()
        state, weight = self._recall(parent)
        actions = torch.from_numpy(action + self._start).to(self._device).repeat_interleave(planner.particles)
        reward = torch.zeros(self.rows, dtype=torch.float64, device=self._device)
        reached = weight
        for _ in range(planner.action_repeat):
            state, earned, reached = self._imagine(state, actions, reached, noise)
            reward += earned
        discount = reached.sum(1)
        # Where no particle goes on, the weights mean nothing
        weight = torch.where(discount.unsqueeze(1) > 0, reached / discount.unsqueeze(1), weight)
        self._keep(node, state, weight)
        value = self._evaluate(state, weight, np.where(wanted, self._rollout_steps(depth), 0), noise)
        figures = torch.stack([reward, discount, value]).cpu().numpy()
        self._check_finite(figures[:, wanted])
        return Outcome(figures[0], figures[1], figures[2], self._prior(state).cpu().numpy())

    def _rollout_steps(self, depth: Integers) -> Integers:
        """`[B]`, dreamed steps of random actions behind nodes of depth `depth` `[B]`."""
        planner = self._planner
        left = planner.action_repeat * (math.ceil(planner.horizon / planner.action_repeat) - depth)
        return left if planner.rollout is None else np.minimum(left, planner.rollout)

    def _evaluate(self, state: Any, weight: Tensor, steps: Integers, noise: Noise) -> Tensor:
        """`[B]`: the return of `steps` `[B]` random steps from nodes, and what the states behind them are worth."""
        planner = self._planner
        total = torch.zeros(self.rows, dtype=torch.float64, device=self._device)
        reached = weight
        remaining = torch.from_numpy(steps).to(self._device)
        actions = self._dreams
        for step in range(int(steps.max()) + 1):
            worth = planner.worth(self._model, state) if (steps == step).any() else None
            if worth is not None:
                total += torch.where(remaining == step, (reached * worth.double().view(reached.shape)).sum(1), 0.0)
            if step == steps.max():
                break
            if step % planner.action_repeat == 0:
                drawn = noise.uniform(len(self._dreams), 1).squeeze(1)
                actions = (drawn * self.actions).long().clamp(max=self.actions - 1) + self._start
            state, earned, reached = self._imagine(state, actions, reached, noise)
            total += torch.where(remaining > step, earned, 0.0)
        return total

    def _imagine(self, state: Any, actions: Tensor, reached: Tensor, noise: Noise) -> tuple[Any, Tensor, Tensor]:
        """The next state, the reward `[B]` under weights `reached` `[B, P]`, and what is left of those weights."""
        state, prediction = self._step(state, actions, noise=noise, temperature=self._temperature)
        earned = (reached * prediction.reward.double().view(reached.shape)).sum(1)
        goes_on = 1 - prediction.termination_probability.double().view(reached.shape)
        return state, earned, reached * (self._planner.discount * goes_on)

    def _check_finite(self, figures: Floats) -> None:
        if not np.isfinite(figures).all():
            raise NonFiniteError(
                "a dreamed reward or value is not finite: the observation was not, or the memory model diverges at "
                f"this temperature ({self._temperature:g}) or horizon ({self._planner.horizon})"
            )

    def _prior(self, state: Any) -> Tensor:
        """`[B, n]` float64, the mean over the particles."""
        memory = self._model.memory
        if self._planner.prior is not None:
            chances = self._planner.prior(memory.features(state)).double()
        else:
            logits = memory.prior(state)
            if logits is None:
                return torch.full((self.rows, self.actions), 1 / self.actions, dtype=torch.float64, device=self._device)
            chances = logits.double().softmax(-1)
        return chances.view(self.rows, -1, self.actions).mean(1)

    def _noise_of_node(self) -> Noise:
        # How many numbers a node draws depends on the depth of its neighbours in the batch; a row's stream must not
        return self._noise.fork() if isinstance(self._noise, RowNoise) else self._noise

    def _keep(self, node: int, state: Any, weight: Tensor) -> None:
        for kept, part in zip(self._states, state, strict=True):
            kept[node] = part
        self._weights[node] = weight

    def _recall(self, node: Integers) -> tuple[Any, Tensor]:
        """Memory state `[B * P]` and weights `[B, P]` of node `node` `[B]` of each tree."""
        index = torch.from_numpy(node).to(self._device)
        of_dream = index.repeat_interleave(self._planner.particles)
        state = type(self._states)(*(kept[of_dream, self._dreams] for kept in self._states))
        return state, self._weights[index, torch.arange(self.rows, device=self._device)]
