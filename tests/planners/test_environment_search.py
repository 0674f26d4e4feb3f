from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from dreamenv.bundle import StartStates
from dreamenv.envs import DreamEnv, LatentEnv
from dreamenv.errors import ConfigurationError
from dreamenv.memory.tabular import TabularMemory
from dreamenv.planners import Seen, search_environment
from dreamenv.types import RealEnvSpec
from dreamenv.vision.identity import IdentityVision
from dreamenv.world_model import WorldModel
from tests.agents.small_dreams import CHOICE, StairsMemory, small_dream


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def cross(lake: list[str] | None, **options: Any) -> tuple[float, int]:
    """Return and steps of an episode on a lake without ice, planned anew before each step."""
    env = gym.make("FrozenLake-v1", desc=lake, is_slippery=False)
    env.reset(seed=0)
    generator, total, steps, ended = rng(), 0.0, 0, False
    while not ended:
        plan = search_environment(env, generator=generator, discount=0.9, **options)
        _, reward, terminated, truncated, _ = env.step(plan.action)
        total, steps, ended = total + float(reward), steps + 1, terminated or truncated
    return total, steps


def test_a_small_lake_is_crossed_in_the_fewest_steps() -> None:
    assert cross(["SFF", "FHF", "FFG"], simulations=250, horizon=6) == (1.0, 4)


@pytest.mark.slow
def test_frozen_lake_is_crossed_in_the_fewest_steps() -> None:
    assert cross(None, simulations=1500, horizon=8) == (1.0, 6)


def test_the_value_is_the_mean_of_what_the_simulations_returned() -> None:
    env = gym.make("CartPole-v1")
    env.reset(seed=0)
    plan = search_environment(env, generator=rng(), simulations=20, horizon=4, discount=1.0)
    assert plan.visits.sum() == 20
    assert plan.value == 4
    assert plan.action_values.tolist() == [4, 4]


def test_the_environment_is_left_as_it_was() -> None:
    env = gym.make("CartPole-v1", max_episode_steps=15)
    env.reset(seed=1)
    twin = gym.make("CartPole-v1", max_episode_steps=15)
    twin.reset(seed=1)
    search_environment(env, generator=rng(), simulations=20)
    for step in range(15):
        ours, theirs = env.step(step % 2), twin.step(step % 2)
        np.testing.assert_array_equal(ours[0], theirs[0])
    assert ours[3] is theirs[3] is True


def test_get_state_is_used_where_there_is_one() -> None:
    model = small_dream(StairsMemory(), CHOICE)
    env = DreamEnv(model, observation="latent")
    env.reset(seed=3)
    before = env.get_state()
    plan = search_environment(env, generator=rng(), simulations=120, horizon=5)
    assert plan.action == CHOICE.start + 2
    assert plan.visits.sum() == 120
    after = env.get_state()
    assert after["rollout"]["memory"]["place"].tolist() == before["rollout"]["memory"]["place"].tolist()
    assert after["rollout"]["elapsed"].tolist() == [0]
    assert after["generator"] == before["generator"]


class Told(gym.ObservationWrapper[Any, Any, Any]):
    """What is shown is moved by 100."""

    def observation(self, observation: Any) -> Any:
        return observation + 100


class Turned(gym.ActionWrapper[Any, Any, Any]):
    """The first action is the last one."""

    def action(self, action: Any) -> Any:
        return 2 * CHOICE.start + int(CHOICE.n) - 1 - action


class Asked:
    """A guide that notes what it is shown."""

    def __init__(self) -> None:
        self.shown: list[float] = []

    def chances(self, features: torch.Tensor) -> torch.Tensor:
        self.shown += features[:, 0].tolist()
        return torch.full((len(features), int(CHOICE.n)), 1 / int(CHOICE.n))

    def value(self, features: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(features))

    def action(self, features: torch.Tensor) -> torch.Tensor:
        raise AssertionError


def test_what_wrappers_change_is_searched_as_it_is_seen_and_done() -> None:
    bare = DreamEnv(small_dream(StairsMemory(), CHOICE), observation="latent")
    env, guide = Told(bare), Asked()
    observation, _ = env.reset(seed=3)
    search_environment(env, generator=rng(), simulations=20, horizon=5, seen=Seen(guide, observation))
    assert len(guide.shown) > 5
    assert min(guide.shown) > 50, "behind the root too"
    turned = Turned(bare)
    turned.reset(seed=3)
    plan = search_environment(turned, generator=rng(), simulations=120, horizon=5)
    assert turned.action(plan.action) == CHOICE.start + 2, "the unwrapped search takes this one"


def test_what_wrappers_pay_is_what_is_searched_for() -> None:
    env = gym.wrappers.TransformReward(
        DreamEnv(small_dream(StairsMemory(), CHOICE), observation="latent"), lambda reward: -float(reward)
    )
    env.reset(seed=3)
    plan = search_environment(env, generator=rng(), simulations=120, horizon=5)
    assert plan.action == CHOICE.start, "the unwrapped search goes up"


def test_the_same_generator_finds_the_same_plan() -> None:
    env = gym.make("CartPole-v1")
    env.reset(seed=0)
    plans = [search_environment(env, generator=rng(seed), simulations=30) for seed in (1, 1, 2)]
    assert plans[0].action_values.tolist() == plans[1].action_values.tolist()
    assert plans[0].action_values.tolist() != plans[2].action_values.tolist()


class Coin(gym.Env[int, int]):
    """Action 1 bets 1 on a fair coin that pays 1.5, action 0 ends the game."""

    observation_space = gym.spaces.Discrete(1)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        if action == 0:
            return 0, 0.0, True, False, {}
        return 0, 0.5 if self.np_random.random() < 0.5 else -1.0, False, False, {}


class Indifferent:
    """A guide that prefers nothing."""

    def chances(self, features: torch.Tensor) -> torch.Tensor:
        return torch.full((len(features), 2), 0.5)

    def action(self, features: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(features), dtype=torch.int64)

    def value(self, features: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(features))


def test_a_copy_does_not_know_what_the_dice_will_show() -> None:
    outcomes = set()
    env = Coin()
    env.reset(seed=0)
    for seed in range(20):
        seen = Seen(Indifferent(), np.zeros(1))
        plan = search_environment(env, generator=rng(seed), simulations=2, horizon=1, seen=seen)
        outcomes.add(float(plan.action_values[1]))
    assert outcomes == {0.5, -1.0}
    env.step(1)  # its own generator was not touched
    other = Coin()
    other.reset(seed=0)
    other.step(1)
    assert env.np_random.random() == other.np_random.random()


def test_a_copy_of_a_latent_twin_does_not_know_it_either() -> None:
    """The real environment inside has a generator of its own."""

    def outcomes(env: gym.Env[Any, Any]) -> list[bytes]:
        env.reset(seed=0)
        copies = [copy.deepcopy(env) for _ in range(12)]
        for seed, other in enumerate(copies):
            other.unwrapped.np_random = rng(seed)
        return [np.asarray(other.step(1)[0]).tobytes() for other in copies]

    lake, space = RealEnvSpec("FrozenLake-v1"), gym.spaces.Discrete(4)
    starts = StartStates(torch.eye(16)[:1])
    model = WorldModel(IdentityVision(16), TabularMemory(16, space), lake, space, starts, max_episode_steps=100)
    assert len(set(outcomes(gym.make("FrozenLake-v1")))) > 1
    assert len(set(outcomes(LatentEnv(model)))) > 1


def test_where_outcomes_are_drawn_anew_an_action_is_worth_their_mean() -> None:
    """A bet loses a quarter on average; drawn once, it looks like a gain half of the time."""
    env = Coin()
    env.reset(seed=0)

    def plans(resample: bool) -> list[float]:
        found = [
            search_environment(
                env, generator=rng(seed), simulations=60, horizon=1, exploration=50.0, resample=resample,
                seen=Seen(Indifferent(), np.zeros(1)),
            )
            for seed in range(20)
        ]  # fmt: skip
        assert all(plan.visits.sum() == 60 for plan in found)
        return [float(plan.action_values[1]) for plan in found]

    assert set(plans(False)) == {0.5, -1.0}
    drawn = plans(True)
    assert max(drawn) < 0.2
    assert np.mean(drawn) == pytest.approx(-0.25, abs=0.1)


class Cards(gym.Env[int, int]):
    """The first action shows a card, red or black; the second one names a colour and pays 1 if it is right, else -1.
    The state can be put back, and what is drawn is no part of it."""

    observation_space = gym.spaces.Discrete(3)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.card = 2
        return self.card, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        if self.card < 2:
            return self.card, 1.0 if action == self.card else -1.0, True, False, {}
        self.card = int(self.np_random.integers(2))
        return self.card, 0.0, False, False, {}

    def get_state(self) -> int:
        return self.card

    def set_state(self, state: int) -> None:
        self.card = state


def test_behind_every_outcome_the_search_goes_on_by_itself() -> None:
    """Who has seen the card names it; a plan that holds for both cards would earn nothing."""
    env = Cards()
    env.reset(seed=0)
    plan = search_environment(env, generator=rng(), simulations=300, horizon=2, discount=1.0, resample=True)
    assert plan.action_values.min() > 0.6
    assert env.get_state() == 2


def test_where_nothing_is_random_drawing_anew_finds_the_same() -> None:
    env = gym.make("CartPole-v1")
    observation, _ = env.reset(seed=0)
    once, anew = (
        search_environment(
            env, generator=rng(), simulations=100, horizon=12, rollout=0, resample=resample,
            seen=Seen(Indifferent(), observation),
        )
        for resample in (False, True)
    )  # fmt: skip
    assert anew.visits.tolist() == once.visits.tolist()
    np.testing.assert_allclose(anew.action_values, once.action_values, rtol=1e-9)


class Nim(gym.Env[np.ndarray[Any, Any], int]):
    """Two players take one to three sticks in turn; who takes the last one wins. A step is the move of one of them."""

    observation_space = gym.spaces.Box(0, 20, (1,), np.float32)
    action_space = gym.spaces.Discrete(3, start=1)

    def __init__(self, sticks: int = 10, *, masked: bool = True) -> None:
        self.sticks, self.tried = sticks, set[tuple[int, int]]()
        if masked:
            self.action_masks = lambda: np.arange(1, 4) <= self.sticks

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.tried.add((self.sticks, int(action)))
        self.sticks = max(0, self.sticks - int(action))
        return self._seen(), float(self.sticks == 0), self.sticks == 0, False, {}

    def get_state(self) -> int:
        return self.sticks

    def set_state(self, state: int) -> None:
        self.sticks = state

    def _seen(self) -> Any:
        return np.array([self.sticks], np.float32)


@pytest.mark.parametrize("resample", [False, True])
@pytest.mark.parametrize("sticks", [5, 6, 7, 9, 10, 11])
def test_a_negative_discount_searches_for_both_players(sticks: int, resample: bool) -> None:
    """Who leaves a multiple of four wins. To look for one's own moves alone, as if the other wanted the same, is no
    help: then all plans that end with an own move are alike."""
    env = Nim(sticks)
    env.reset(seed=0)
    plan = search_environment(env, generator=rng(), simulations=600, horizon=12, discount=-1.0, resample=resample)
    assert plan.action == sticks % 4
    assert plan.action_values[sticks % 4 - 1] > 0.5
    assert plan.value < 1.0
    assert env.sticks == sticks
    lost = Nim(8)
    lost.reset(seed=0)
    found = search_environment(lost, generator=rng(), simulations=600, horizon=12, discount=-1.0, resample=resample)
    assert found.value < -0.5


def test_a_guide_of_a_game_is_asked_for_whoever_moves_next() -> None:
    """Its values are of the one who moves next, so that the value of a move is minus that of what it leads to."""

    class Knowing(Indifferent):
        def chances(self, features: torch.Tensor) -> torch.Tensor:
            return torch.full((len(features), 3), 1 / 3)

        def value(self, features: torch.Tensor) -> torch.Tensor:
            return torch.where(features[:, 0] % 4 == 0, -1.0, 1.0)

    env = Nim(10)
    observation, _ = env.reset(seed=0)
    plan = search_environment(
        env, generator=rng(), simulations=3, horizon=12, exploration=50.0, discount=-1.0,
        seen=Seen(Knowing(), observation),
    )  # fmt: skip
    assert plan.action_values.tolist() == [-1.0, 1.0, -1.0]


def test_noise_at_the_root_tries_what_a_guide_thinks_nothing_of() -> None:
    class Sure(Indifferent):
        def chances(self, features: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[1 - 2e-6, 1e-6, 1e-6]]).expand(len(features), 3)

    env = Nim(2)
    observation, _ = env.reset(seed=0)

    def visits(noise: float, seed: int) -> Any:
        return search_environment(
            env, generator=rng(seed), simulations=40, horizon=12, discount=-1.0, seen=Seen(Sure(), observation),
            root_noise=noise,
        ).visits  # fmt: skip

    assert visits(0.0, 0).tolist() == visits(0.0, 1).tolist()
    noisy = np.array([visits(0.5, seed) for seed in range(10)])
    assert noisy[:, 1].sum() > 5 * visits(0.0, 0)[1]
    assert not noisy[:, 2].any(), "what is not allowed gets no noise either"
    assert noisy.tolist() == [visits(0.5, seed).tolist() for seed in range(10)]


def test_actions_that_the_environment_does_not_take_are_not_tried() -> None:
    for masked in (False, True):
        env = Nim(5, masked=masked)
        env.reset(seed=0)
        plan = search_environment(env, generator=rng(), simulations=200, horizon=12, discount=-1.0)
        assert plan.action == 1
        assert any(action > sticks for sticks, action in env.tried) is not masked
    alone = Nim(1)
    alone.reset(seed=0)
    plan = search_environment(alone, generator=rng(), simulations=10, horizon=12, discount=-1.0)
    assert plan.visits.tolist() == [10, 0, 0]
    alone.action_masks = lambda: np.zeros(3, np.bool_)
    with pytest.raises(ConfigurationError, match=r"action_masks\(\) allows no action"):
        search_environment(alone, generator=rng(), simulations=10)


class Stuck(gym.Env[int, int]):
    observation_space = gym.spaces.Discrete(1)
    action_space = gym.spaces.Discrete(2)

    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("cannot pickle 'Engine' object")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"simulations": 0}, "simulations must be"),
        ({"horizon": 0}, "horizon must be"),
        ({"rollout": 0}, r"rollout=0 .* Leave rollout out .*seen=Seen"),
        ({"rollout": 21}, r"rollout must be an integer in \[0, horizon=20\].*got 21"),
        ({"discount": 2.0}, "discount must be"),
        ({"discount": 0.0}, r"discount must be in \(0, 1\], or in \[-1, 0\) where two players take turns"),
        ({"exploration": -1.0}, "exploration must be"),
        ({"root_noise": 1.0}, "root_noise must be"),
    ],
)
def test_bad_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        search_environment(Coin(), generator=rng(), **options)


def test_environments_that_cannot_be_searched() -> None:
    with pytest.raises(ConfigurationError, match=r"search_environment searches over Discrete actions, got Box"):
        search_environment(gym.make("Pendulum-v1"), generator=rng())
    with pytest.raises(ConfigurationError, match=r"cannot be copied \(TypeError.*get_state\(\) and set_state"):
        search_environment(Stuck(), generator=rng())
