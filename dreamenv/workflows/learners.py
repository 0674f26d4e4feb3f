"""Learners of the loop: what makes an agent of a round's dream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import gymnasium as gym
import torch

from dreamenv.agents.action_map import ActionMap
from dreamenv.agents.action_noise import ActionNoise
from dreamenv.agents.actor_critic import ActorCritic
from dreamenv.agents.controller import LinearController
from dreamenv.agents.evolution import evolve
from dreamenv.agents.imagination import CHECKPOINT_FILE, check_dream_length, new_actor_critic, train_actor_critic
from dreamenv.agents.mpc import check_execute, guidable, planner_called, read_guide, with_guide
from dreamenv.agents.options import EvolutionOptions, ImaginationOptions
from dreamenv.agents.resolve import ResolvedAgent, load_agent, resolve_agent
from dreamenv.agents.saved import AGENT_FILE
from dreamenv.errors import ConfigurationError
from dreamenv.files import atomic
from dreamenv.kinds import Register
from dreamenv.planners.base import Planner
from dreamenv.planners.mcts import MCTS
from dreamenv.training.checkpoint import below, load_tensors
from dreamenv.training.fit import Scalars
from dreamenv.workflows.live import LiveActorCritic, LiveAgent, LiveGuide, LivePlanner
from dreamenv.world_model import WorldModel

OptionsT = TypeVar("OptionsT")
Progress = Callable[[int, int, Scalars], None]


@dataclass(frozen=True)
class Player:
    """An agent as any process finds it.

    Attributes:
        agent: A file, a folder with agent.safetensors, or a planner's name.
        algo: The algorithm of stable-baselines3 that saved the file, if one did.
        greedy: The name of the same planner without what it explores by; None where `agent` explores by nothing.
    """

    agent: str
    algo: str | None = None
    greedy: str | None = None

    def resolve(self, model: WorldModel) -> ResolvedAgent:
        """The agent, which sees through `model` and plays as well as it can."""
        return resolve_agent(self.greedy or self.agent, model, algo=self.algo)


@dataclass(frozen=True)
class NoOptions:
    """Of a learner that has none."""


class Learner(ABC, Generic[OptionsT]):
    """Makes an agent of a dream, round after round; `KIND` or `KIND:DETAIL` in `LoopOptions.learner`.

    Attributes:
        options_type: A frozen dataclass with a default for every field; it refuses what is out of range.
        continual: Whether it can learn while the model does, after every episode.
        by_rounds_only: Options that have no use then, and are refused unless they are 0.
        windows_only: Options that need what really followed the moments that are replayed (`Recipe.windows`), and are
            refused without it unless they are 0.
        dreams: Whole dreams that it plays after a round, where `LoopOptions` does not say.
        options_by_detail: Whether options of one detail mean nothing to another.

    Args:
        detail: What follows the kind's name, such as "cem,horizon=12" or "ppo"; empty where nothing does.
        options: An `options_type`.

    Raises:
        ConfigurationError: A detail that it cannot take.
    """

    options_type: type[OptionsT]
    continual: ClassVar[bool] = False
    by_rounds_only: ClassVar[tuple[str, ...]] = ()
    windows_only: ClassVar[tuple[str, ...]] = ()
    dreams: int = 64
    options_by_detail: ClassVar[bool] = False

    def __init__(self, detail: str, options: OptionsT) -> None:
        self.detail, self.options = detail, options

    def check_actions(self, action_space: gym.Space[Any]) -> None:
        """Refuse actions that the agent cannot take, before anything is collected; the default takes all.

        Raises:
            ConfigurationError: Such actions.
        """

    def check_dream_length(self, longest: int) -> None:
        """Refuse options that want longer dreams than there will be; the default takes dreams of any length.

        Args:
            longest: The dream's time limit in actions.

        Raises:
            ConfigurationError: Such options.
        """

    @abstractmethod
    def learn(self, model: WorldModel, folder: Path, *, before: Path | None, seed: int, progress: Progress) -> Player:
        """Learn in the dream of `model` and leave the agent in `folder`.

        A call that was killed ends as an unbroken one when it is made again.

        Args:
            model: The round's.
            folder: Checkpoints and the agent.
            before: The folder of the round before, whose agent is learned on from; None begins afresh.
            seed: Of everything.
            progress: Called with step, steps and scalars.
        """

    @abstractmethod
    def player(self, folder: Path) -> Player:
        """The agent that `learn`, or a `LiveAgent`, has left in `folder`."""

    def live(self, model: WorldModel, *, seed: int, checkpoint: Path) -> LiveAgent:
        """An agent that learns while `model` does, where `continual` says so.

        Args:
            model: V and M, which go on learning.
            seed: Of everything.
            checkpoint: File that errors name as the last good one.

        Raises:
            ConfigurationError: It learns by rounds only (the default).
        """
        raise ConfigurationError(f"{type(self).__name__} learns by rounds only: leave update_every out")


class ActorCriticLearner(Learner[ImaginationOptions]):
    """Actor and critic in imagination; see `train_actor_critic`.

    With a planner behind its name ("actor-critic:cem,horizon=12") it is that planner which plays, and the two guide it:
    the actor proposes a plan, and the critic says what the state at a plan's end is worth.
    """

    options_type = ImaginationOptions
    continual = True
    by_rounds_only = ("critic_first", "first_share")
    windows_only = ("replay_critic",)

    def __init__(self, detail: str, options: ImaginationOptions) -> None:
        super().__init__(detail, options)
        self._guided: tuple[str, Planner] | None = None
        if detail:
            self.dreams = PlannerLearner.dreams
            self._guided = _guided_planner(detail, options)

    def check_actions(self, action_space: gym.Space[Any]) -> None:
        ActionMap(action_space, self.options.action_map)
        if self._guided is not None:
            self._guided[1].check_actions(action_space)

    def check_dream_length(self, longest: int) -> None:
        check_dream_length(self.options.horizon, longest, "the time limit")

    def learn(self, model: WorldModel, folder: Path, *, before: Path | None, seed: int, progress: Progress) -> Player:
        networks = new_actor_critic(model, self.options, seed=seed // 1000)
        if before is not None:
            _continue_from(networks, before)
        player = self.player(folder)
        if self._guided is not None:
            self._guided[1].cold(model, 1)  # says at once what the planner lacks
        train_actor_critic(model, out_dir=folder, options=self.options, seed=seed, begin=networks, progress=progress)
        return player

    def player(self, folder: Path) -> Player:
        if self._guided is None:
            return Player(str(folder))
        name, planner = self._guided
        return _planning(with_guide(name, str(folder)), planner)

    def live(self, model: WorldModel, *, seed: int, checkpoint: Path) -> LiveAgent:
        if self._guided is None:
            return LiveActorCritic(model, self.options, seed=seed, checkpoint=checkpoint)
        return LiveGuide(model, self.options, planner=self._guided[0], seed=seed, checkpoint=checkpoint)


class EvolutionLearner(Learner[EvolutionOptions]):
    """A linear controller by evolution; see `evolve`."""

    options_type = EvolutionOptions

    def __init__(self, detail: str, options: EvolutionOptions) -> None:
        super().__init__(detail, options)
        _refuse_detail("evolve", detail)

    def check_actions(self, action_space: gym.Space[Any]) -> None:
        ActionMap(action_space, self.options.action_map)
        ActionNoise(action_space, self.options.action_noise)

    def learn(self, model: WorldModel, folder: Path, *, before: Path | None, seed: int, progress: Progress) -> Player:
        begin = None
        if before is not None:
            agent = load_agent(before / AGENT_FILE)
            assert isinstance(agent, LinearController)
            begin = agent.weights
        generations = self.options.generations
        evolve(
            model,
            out_dir=folder,
            options=self.options,
            seed=seed,
            begin=begin,
            progress=lambda row: progress(
                row.index, generations, {"dream_mean": row.dream_mean, "dream_best": row.dream_best}
            ),
        )
        return self.player(folder)

    def player(self, folder: Path) -> Player:
        return Player(str(folder))


class PlannerLearner(Learner[NoOptions]):
    """A planner, which learns nothing itself: each round's model is what makes it better (PETS, PlaNet)."""

    options_type = NoOptions
    continual = True
    dreams = 4

    def __init__(self, detail: str, options: NoOptions) -> None:
        super().__init__(detail, options)
        if not detail:
            raise ConfigurationError("learner='planner' needs the planner's name, such as 'planner:cem,horizon=12'")
        # What cannot work is refused before anything is collected
        self._planner, own = planner_called(f"planner:{detail}")
        check_execute(self._planner, own.get("execute", 1))
        if "guide" in own:
            read_guide(own["guide"], self._planner)

    def check_actions(self, action_space: gym.Space[Any]) -> None:
        self._planner.check_actions(action_space)

    def learn(self, model: WorldModel, folder: Path, *, before: Path | None, seed: int, progress: Progress) -> Player:
        player = self.player(folder)
        player.resolve(model)  # says at once what the planner lacks
        return player

    def player(self, folder: Path) -> Player:
        return _planning(f"planner:{self.detail}", self._planner)

    def live(self, model: WorldModel, *, seed: int, checkpoint: Path) -> LiveAgent:
        return LivePlanner(model, f"planner:{self.detail}")


@dataclass(frozen=True)
class SB3Options:
    """Hyperparameters of `SB3Learner`.

    Attributes:
        steps: Dreamed actions a round.
        num_envs: Dreams at once.
        settings: Keyword arguments of the algorithm.
    """

    steps: int = 100_000
    num_envs: int = 32
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if min(self.steps, self.num_envs) < 1:
            raise ConfigurationError(
                f"steps and num_envs must be at least 1, got steps={self.steps}, num_envs={self.num_envs}"
            )


class SB3Learner(Learner[SB3Options]):
    """An algorithm of stable-baselines3 by its name, such as "sb3:ppo". A killed round begins its training again."""

    options_type = SB3Options
    options_by_detail = True

    def __init__(self, detail: str, options: SB3Options) -> None:
        super().__init__(detail, options)
        if not detail:
            raise ConfigurationError("learner='sb3' needs the algorithm's name, such as 'sb3:ppo'")
        from dreamenv.sb3.models import check_settings

        check_settings(detail, options.settings, own=("policy", "env", "seed", "device"))

    def check_actions(self, action_space: gym.Space[Any]) -> None:
        from dreamenv.sb3.models import algorithm

        algorithm(self.detail, action_space)

    def learn(self, model: WorldModel, folder: Path, *, before: Path | None, seed: int, progress: Progress) -> Player:
        from dreamenv.sb3 import DreamVecEnv
        from dreamenv.sb3.models import algorithm, new_model

        player = self.player(folder)
        if Path(player.agent).exists():
            return player
        kind: Any = algorithm(self.detail, model.action_space)
        envs = DreamVecEnv(model, num_envs=self.options.num_envs)
        envs.seed(seed)
        try:
            if before is None:
                learner: Any = new_model(self.detail, envs, self.options.settings, seed=seed, device=str(model.device))
            else:
                learner = kind.load(self.player(before).agent, env=envs, device=str(model.device))
            learner.learn(self.options.steps, reset_num_timesteps=before is None)
            progress(self.options.steps, self.options.steps, {})
            folder.mkdir(parents=True, exist_ok=True)
            with atomic(Path(player.agent)) as temporary, temporary.open("wb") as out:
                learner.save(out)
        finally:
            envs.close()
        return player

    def player(self, folder: Path) -> Player:
        return Player(str(folder / "agent.zip"), self.detail)


LEARNERS: Register[type[Learner[Any]]] = Register(
    "learner",
    {
        "actor-critic": "dreamenv.workflows.learners:ActorCriticLearner",
        "evolve": "dreamenv.workflows.learners:EvolutionLearner",
        "planner": "dreamenv.workflows.learners:PlannerLearner",
        "sb3": "dreamenv.workflows.learners:SB3Learner",
    },
)


def register_learner(name: str, learner: type[Learner[Any]]) -> None:
    """Make `dreamenv loop --learner NAME` and `LoopOptions` know `learner`; or name it by an entry point
    `dreamenv.learner`.

    Raises:
        ConfigurationError: Another learner has this name.
    """
    LEARNERS.add(name, learner)


def make_learner(name: str, options: Any) -> Learner[Any]:
    """The learner called `KIND` or `KIND:DETAIL`, with options of its type.

    Raises:
        ConfigurationError: An unknown kind, or a detail that it cannot take.
    """
    kind, _, detail = name.partition(":")
    return LEARNERS[kind](detail, options)


def shares_options(learner: str, other: str) -> bool:
    """Whether what is an option of one learner, by its name, is one of the other.

    Raises:
        ConfigurationError: An unknown kind.
    """
    kind, other_kind = learner.partition(":")[0], other.partition(":")[0]
    return learner == other or (kind == other_kind and not LEARNERS[kind].options_by_detail)


def _planning(name: str, planner: Planner) -> Player:
    """The planner of this name, which plays as well as it can without what it explores by."""
    # Gumbel's root draws what it tries, which is how it explores
    explores = isinstance(planner, MCTS) and planner.gumbel and planner.gumbel_noise > 0
    settings = [part for part in name.split(",") if not part.strip().startswith("gumbel_noise=")]
    return Player(name, greedy=",".join([*settings, "gumbel_noise=0"]) if explores else None)


def _guided_planner(detail: str, options: ImaginationOptions) -> tuple[str, Planner]:
    """Name, with the agent's discount, of the planner that an actor-critic guides, and the planner.

    Raises:
        ConfigurationError: A planner that takes no guide, settings that follow from the agent, or values that are not
            those of what plans earn.
    """
    learner = f"learner 'actor-critic:{detail}'"
    given = {setting.partition("=")[0].strip() for setting in detail.split(",")}
    for setting, source in (("guide", "the agent that learns"), ("discount", "agent.discount")):
        if setting in given:
            raise ConfigurationError(f"{learner}: {setting} follows from {source}; leave it out")
    for setting in ("reward_clip", "reward_squash"):
        value = getattr(options, setting)
        if value is not None:
            raise ConfigurationError(
                f"{learner}: agent.{setting}={value} makes values of other rewards than plans earn; leave it out"
            )
    name = f"planner:{detail},discount={options.discount}"
    planner, own = planner_called(name)
    check_execute(planner, own.get("execute", 1))
    guidable(planner, learner)
    return name, planner


def _refuse_detail(kind: str, detail: str) -> None:
    if detail:
        raise ConfigurationError(f"learner '{kind}:{detail}': {kind} takes nothing behind its name; write '{kind}'")


def _continue_from(networks: ActorCritic, before: Path) -> None:
    tensors, _ = load_tensors(before / CHECKPOINT_FILE)
    with torch.no_grad():
        networks.load_state_dict(below("best.", tensors))
