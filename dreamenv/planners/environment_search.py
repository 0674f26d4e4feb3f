"""Monte Carlo tree search on any Gymnasium environment whose state can be copied."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from dreamenv.errors import ConfigurationError
from dreamenv.planners.arguments import (
    check_count,
    check_discount_of_players,
    check_positive,
    check_rollout,
    check_share,
    checked_discrete,
)
from dreamenv.planners.base import Guide
from dreamenv.planners.tree import PUCT, Floats, Integers, Outcome, search

# Around an environment these change nothing of what a step of it leads to and pays
_NEUTRAL = (
    gym.wrappers.OrderEnforcing,
    gym.wrappers.PassiveEnvChecker,
    gym.wrappers.RecordEpisodeStatistics,
    gym.wrappers.TimeLimit,
)

# Of noise at the root, for all actions together
_CONCENTRATION = 10.0


@dataclass(frozen=True)
class Seen:
    """Where a guided search begins.

    Attributes:
        guide: Its chances are the prior, and its values stand in for random actions; what it calls features are the
            environment's observations, which must be vectors.
        observation: `[F]`, the last one that the environment has given.
    """

    guide: Guide
    observation: NDArray[Any]

    def judge(self, observation: NDArray[Any]) -> tuple[Floats, Floats]:
        """Value `[1]` and chances `[1, n]` of an observation `[F]`."""
        features = torch.from_numpy(np.asarray(observation, np.float32)[None])
        with torch.no_grad():
            value, chances = self.guide.value(features), self.guide.chances(features)
        return value.double().numpy(), chances.double().numpy()


@dataclass(frozen=True)
class EnvironmentPlan:
    """What a search in an environment found.

    Attributes:
        action: The action tried most often.
        value: Mean discounted return of the simulations.
        visits: `[n]`, how often each action was tried at the root.
        action_values: `[n]`, the mean discounted return of each.
    """

    action: int
    value: float
    visits: Integers
    action_values: Floats


def search_environment(
    env: gym.Env[Any, Any],
    *,
    generator: np.random.Generator,
    simulations: int = 100,
    horizon: int = 20,
    rollout: int | None = None,
    discount: float = 0.99,
    exploration: float = 1.25,
    seen: Seen | None = None,
    resample: bool = False,
    root_noise: float = 0.0,
) -> EnvironmentPlan:
    """Plan from where `env` stands, on copies of it; `env` itself is left as it was.

    The state is copied by `get_state` and `set_state` of `env.unwrapped` where it has both, and otherwise by
    `copy.deepcopy` of the whole environment. With the former, wrappers (a time limit too) are left out, and what the
    environment draws at random is foreseen as far as its state fixes it; a deep copy draws anew, from `generator`.
    That is so under wrappers that leave steps as they are (a time limit, counts, checks), and under wrappers of
    observations where no guide reads them; under any others the whole is copied.

    Two players: where a step is the move of one side, the observation is what the other sees, who moves next, and the
    reward is of the one who has moved, a negative discount searches for both (AlphaZero; -1 does not discount).

    Illegal actions: where `env.unwrapped` has `action_masks()`, `[n]` bool, as MaskablePPO of sb3-contrib asks for it,
    actions that are False there are never tried.

    Args:
        env: Has been reset and has not ended; its actions are Discrete.
        generator: Draws the random actions behind new nodes.
        simulations: Nodes of the tree.
        horizon: Steps looked ahead, in the tree and behind it together.
        rollout: Most steps of random actions behind a new node; None goes on to the horizon, and 0 leaves it to the
            guide of `seen` what a node is worth.
        discount: γ per step, in (0, 1]; negative for two players, see above.
        exploration: c₁ of the search.
        seen: A guide and what it sees; None: all chances are equal, and random actions follow new nodes.
        resample: Whether every simulation draws the outcomes of its actions anew, so that an action is worth their
            mean; outcomes are told apart by observation, reward and end. Otherwise each is drawn once, when its node is
            opened, as in `MCTS`: that is enough where nothing is random, and costs a step of the environment for a
            simulation in place of one for each action on its way.
        root_noise: Share of the chances at the root that is noise from `generator`, in [0, 1): Dirichlet of
            concentration 10 divided by the number of actions. By it a search that a network learns from tries what the
            network has come to think nothing of (Silver et al. 2018, "A general reinforcement learning algorithm that
            masters chess, shogi, and Go through self-play": 0.25); 0 is for playing.

    Raises:
        ConfigurationError: A number out of range, actions that are not Discrete, an environment that cannot be copied,
            or a rollout of 0 without a guide.
    """
    check_count(simulations=simulations, horizon=horizon)
    check_discount_of_players(discount)
    check_positive(exploration=exploration)
    check_rollout(rollout, horizon)
    check_share(root_noise=root_noise)
    if rollout == 0 and seen is None:
        raise ConfigurationError(
            "rollout=0 leaves it to a value what a node is worth, and there is none. Leave rollout out (random steps "
            "then say it), or search with seen=Seen(guide, observation), such as the guide of a distilled agent."
        )
    space = checked_discrete(env.action_space, "search_environment")
    copies = _Restored(env) if _has_state(env, guided=seen is not None) else _Copied(env, generator)
    try:
        kind = _ChanceTree if resample else _EnvironmentTree
        model = kind(
            copies,
            int(space.n),
            int(space.start),
            generator,
            horizon,
            horizon if rollout is None else rollout,
            discount,
            seen,
            root_noise,
        )
        tree = search(model, simulations=simulations, depth=horizon, selection=PUCT(exploration))
    finally:
        copies.close()
    return EnvironmentPlan(
        int(tree.best_action()[0]) + int(space.start),
        float(tree.root_value[0]),
        tree.root_visits[0],
        tree.action_values(np.zeros(1, np.int64))[0],
    )


class _Copied:
    """Snapshots are deep copies."""

    def __init__(self, env: gym.Env[Any, Any], generator: np.random.Generator) -> None:
        self._generator = generator
        self.first = self.save(env)

    def save(self, env: gym.Env[Any, Any]) -> Any:
        try:
            return copy.deepcopy(env)
        except Exception as error:  # whatever a foreign environment holds
            raise ConfigurationError(
                f"{env} cannot be copied ({type(error).__name__}: {error}). Make it without a render_mode, or give it "
                "get_state() and set_state(state)."
            ) from error

    def load(self, snapshot: Any) -> gym.Env[Any, Any]:
        env = self.save(snapshot)
        # The generator is copied with the rest: a plan would know what the dice will show
        env.unwrapped.np_random = np.random.default_rng(self._generator.integers(2**63))
        return env

    def close(self) -> None:
        """Nothing: what a copy shares with the original stays open."""


class _Restored:
    """Snapshots are what `get_state` returns; one environment goes from one to the other."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self._env: Any = env.unwrapped
        self.first = self.save(self._env)

    def save(self, env: Any) -> Any:
        return env.get_state()

    def load(self, snapshot: Any) -> gym.Env[Any, Any]:
        self._env.set_state(snapshot)
        return self._env

    def close(self) -> None:
        """Put the environment back where it was."""
        self._env.set_state(self.first)


def _has_state(env: gym.Env[Any, Any], *, guided: bool) -> bool:
    """Whether a search may step the unwrapped environment in place of `env`, and put it back by its state."""
    bare, around = env.unwrapped, env
    # What other wrappers do to a step, such as to its reward, a search must see
    neutral = _NEUTRAL if guided else (*_NEUTRAL, gym.ObservationWrapper)
    if env.action_space != bare.action_space or (guided and env.observation_space != bare.observation_space):
        return False
    while isinstance(around, gym.Wrapper):
        if not isinstance(around, neutral):
            return False
        around = around.env
    return all(callable(getattr(bare, name, None)) for name in ("get_state", "set_state"))


def _allowed(env: gym.Env[Any, Any]) -> NDArray[np.bool_] | None:
    """`[n]`, the actions that the environment takes now; None where it takes all, always.

    Raises:
        ConfigurationError: It takes none.
    """
    masks = getattr(env.unwrapped, "action_masks", None)
    if not callable(masks):
        return None
    allowed = np.asarray(masks(), np.bool_)
    if not allowed.any():
        raise ConfigurationError(f"{env}: action_masks() allows no action, and the episode has not ended")
    return allowed


class _EnvironmentTree:
    """A tree of environment snapshots."""

    rows = 1

    def __init__(
        self,
        copies: _Copied | _Restored,
        actions: int,
        start: int,
        generator: np.random.Generator,
        horizon: int,
        rollout: int,
        discount: float,
        seen: Seen | None,
        root_noise: float,
    ) -> None:
        self.actions = actions
        self._copies, self._start, self._generator = copies, start, generator
        self._horizon, self._rollout, self._discount = horizon, rollout, discount
        self._snapshots = {0: copies.first}
        self._equal = np.full((1, actions), 1 / actions)
        self._seen, self._root_noise = seen, root_noise

    def root(self) -> tuple[Floats, Floats]:
        env = self._copies.load(self._copies.first)
        value, chances = self._judged(env, None if self._seen is None else self._seen.observation, 0)
        if self._root_noise:
            possible = np.flatnonzero(chances[0] > 0)
            noise = np.zeros_like(chances)
            noise[0, possible] = self._generator.dirichlet(np.full(len(possible), _CONCENTRATION / len(possible)))
            chances = (1 - self._root_noise) * chances + self._root_noise * noise
        return value, chances

    def open(
        self, node: int, parent: Integers, action: Integers, depth: Integers, wanted: NDArray[np.bool_]
    ) -> Outcome:
        nothing = np.zeros(1)
        if not wanted[0]:
            return Outcome(nothing, nothing, nothing, self._equal)
        env, (observation, reward, terminated, truncated, _) = self._stepped(node, parent, action)
        if terminated or truncated:
            return Outcome(np.array([float(reward)]), nothing, nothing, self._equal)
        self._snapshots[node] = self._copies.save(env)
        return Outcome(
            np.array([float(reward)]), np.array([self._discount]), *self._judged(env, observation, int(depth[0]))
        )

    def _judged(self, env: gym.Env[Any, Any], observation: Any, depth: int) -> tuple[Floats, Floats]:
        """Value `[1]` and chances `[1, n]` of the actions where `env`, which is used up, stands."""
        allowed = _allowed(env)
        if self._seen is None:
            value, chances = np.array([self._go_on(env, depth)]), self._equal
        else:
            value, chances = self._seen.judge(observation)
        if allowed is None:
            return value, chances
        possible = np.where(allowed, chances, 0.0)
        total = possible.sum()
        return value, possible / total if total > 0 else np.where(allowed, 1 / allowed.sum(), 0.0)[None]

    def _stepped(self, node: int, parent: Integers, action: Integers) -> tuple[gym.Env[Any, Any], Any]:
        """The environment after an action in a node, and what it gave; it leads to the new node `node`."""
        env = self._copies.load(self._snapshots[int(parent[0])])
        return env, env.step(self._start + int(action[0]))

    def _go_on(self, env: gym.Env[Any, Any], depth: int) -> float:
        """The discounted return of random actions in `env`, which is used up."""
        total, weight = 0.0, 1.0
        for _ in range(min(self._rollout, self._horizon - depth)):
            allowed = _allowed(env)
            choice = self._generator.integers(self.actions if allowed is None else allowed.sum())
            action = self._start + int(choice if allowed is None else np.flatnonzero(allowed)[choice])
            _, reward, terminated, truncated, _ = env.step(action)
            total += weight * float(reward)
            weight *= self._discount
            if terminated or truncated:
                break
        return total


class _ChanceTree(_EnvironmentTree):
    """One whose environment takes a step each time that a simulation comes by, and draws anew what it draws."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._known: dict[tuple[Any, ...], int] = {}
        self._drawn: tuple[tuple[Any, ...], gym.Env[Any, Any], Any] | None = None

    def outcome(self, node: Integers, action: Integers, wanted: NDArray[np.bool_]) -> Integers:
        if not wanted[0]:
            return np.full(1, -1)
        env, found = super()._stepped(-1, node, action)
        observation, reward, terminated, truncated, _ = found
        seen = np.asarray(observation)
        what = (int(node[0]), int(action[0]), seen.tobytes(), float(reward), bool(terminated), bool(truncated))
        self._drawn = what, env, found
        return np.full(1, self._known.get(what, -1))

    def _stepped(self, node: int, parent: Integers, action: Integers) -> tuple[gym.Env[Any, Any], Any]:
        assert self._drawn is not None
        what, env, found = self._drawn
        self._known[what] = node
        return env, found
