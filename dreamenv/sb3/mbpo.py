"""MBPO as one call that can be interrupted: an off-policy algorithm that learns from real steps and short dreams."""

from __future__ import annotations

import math
import shutil
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gymnasium.wrappers import TimeLimit

from dreamenv.bundle import StartStates
from dreamenv.bundle_config import CONFIG_FILE
from dreamenv.data.preprocess import make_real_env
from dreamenv.errors import BundleError, ConfigurationError, missing_extra
from dreamenv.files import atomic, read_json, write_json
from dreamenv.options import plain, plain_values, what_differs
from dreamenv.run_lock import alone_in
from dreamenv.sb3.branches import BranchSchedule
from dreamenv.sb3.critic import CriticCallback, check_gamma
from dreamenv.sb3.mixed_buffer import MixedReplayBuffer
from dreamenv.sb3.mixing import MixingCallback
from dreamenv.sb3.models import algorithm, check_settings, new_model, write_provenance
from dreamenv.training.checkpoint import load_tensors, save_tensors
from dreamenv.training.recipes.ensemble import EnsembleMemoryOptions
from dreamenv.training.recipes.fit_ensemble import EnsembleFitOptions, ensemble_world_model, refit_ensemble
from dreamenv.training.transitions import Transitions
from dreamenv.types import RealEnvSpec
from dreamenv.world_model import WorldModel

try:
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
    from stable_baselines3.common.vec_env import DummyVecEnv
except ImportError as _error:
    raise missing_extra("stable-baselines3", "sb3") from _error

# Seeds of the scores' episodes, which no training step has: see `_first_seed`
_SCORE_SEED = 1_000_000
_MOST_UPDATES = 1000
# What the algorithm is given by other options
_OWN = (
    "policy",
    "env",
    "seed",
    "device",
    "buffer_size",
    "learning_starts",
    "train_freq",
    "gradient_steps",
    "replay_buffer_class",
    "replay_buffer_kwargs",
)
# Real moments at which dreams of the bundle can begin
_REPLAY_STARTS = 256


@dataclass(frozen=True)
class MBPOOptions:
    """Hyperparameters of `learn_mbpo` (Janner et al. 2019, algorithm 2 and appendix C).

    Attributes:
        algo: "sac", "td3", "ddpg", "dqn", or one of sb3-contrib; "sbx_sac" is SAC in JAX, whose updates are faster.
        steps: Real steps.
        epoch: Real steps after which it is scored and a checkpoint is written; real episodes begin anew there.
        episode: Real steps after which an episode that is learned from is cut, where that is before its own limit; its
            last value is bootstrapped, as at a time limit. Branches begin where real episodes have been: one that goes
            well to the end is most of all there is in a small run, and hardly holds what an agent has yet to learn.
            Scores are of whole episodes. None cuts none.
        learning_starts: Real steps with random actions at the beginning.
        updates: Gradient steps of the agent for each real step, 1 to 1,000 (the source: 20 to 40).
        real_fraction: Share of real transitions in a batch.
        branches: Length of branches by real steps.
        rollout_batch: Branches of a refill.
        rollout_every, refit_every: Real steps between refills, and between fits of the model.
        retain: Refills of branches that are held; each epoch begins with none.
        model: Of the ensemble.
        fit: How it is fitted.
        agent: Keyword arguments of the algorithm, such as `{"learning_rate": 0.0003}`.
        score_episodes: Real episodes of each score, from which nothing is learned.
        critic_every: Real steps between looks at the critic; see `CriticCallback`.

    Raises:
        ConfigurationError: A number out of range.
    """

    algo: str = "sac"
    steps: int = 20_000
    epoch: int = 1000
    episode: int | None = None
    learning_starts: int = 250
    updates: int = 20
    real_fraction: float = 0.05
    branches: BranchSchedule = field(default_factory=BranchSchedule)
    rollout_batch: int = 10_000
    rollout_every: int = 250
    refit_every: int = 250
    retain: int = 1
    model: EnsembleMemoryOptions = field(default_factory=EnsembleMemoryOptions)
    fit: EnsembleFitOptions = field(default_factory=EnsembleFitOptions)
    agent: dict[str, Any] = field(default_factory=dict)
    score_episodes: int = 5
    critic_every: int = 250

    def __post_init__(self) -> None:
        if not isinstance(self.updates, int) or not 1 <= self.updates <= _MOST_UPDATES:
            raise ConfigurationError(
                f"updates must be a whole number from 1 to {_MOST_UPDATES} a real step, got {self.updates}"
            )
        if not 0 <= self.real_fraction <= 1:
            raise ConfigurationError(f"real_fraction must be in [0, 1], got {self.real_fraction}")
        if min(self.steps, self.epoch, self.learning_starts, self.score_episodes) < 1:
            raise ConfigurationError(
                "steps, epoch, learning_starts and score_episodes must be at least 1; got "
                f"{self.steps}, {self.epoch}, {self.learning_starts}, {self.score_episodes}"
            )
        if max(self.rollout_every, self.refit_every) > self.epoch:
            raise ConfigurationError(
                f"each epoch of {self.epoch} real steps begins with a fit and a refill, so rollout_every and "
                f"refit_every are at most that; got {self.rollout_every} and {self.refit_every}"
            )
        if self.episode is not None and self.episode < 1:
            raise ConfigurationError(f"episode must be at least 1 real step, or None; got {self.episode}")
        if self.learning_starts >= self.steps:
            raise ConfigurationError(
                f"learning_starts={self.learning_starts} of steps={self.steps}: nothing would ever be learned. Take "
                "more steps, or fewer learning_starts"
            )
        gamma = self.agent.get("gamma", 0.99)
        if not isinstance(gamma, (int, float)):
            raise ConfigurationError(f"agent.gamma must be a number, got {gamma!r}")
        check_gamma(gamma)


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to.

    Attributes:
        real_steps: Real steps learned from so far.
        mean: Undiscounted real return of the deterministic policy.
        std: Its sample standard deviation.
        returns: Of each scored episode.
        branch_length: Of the dreams at its end.
        critic: Mean absolute value of the critic; None where it was not looked at.
        critic_limit: What the rewards allow; None as above, and where nothing has been paid yet.
        diverged: Whether the critic was beyond it.
        seconds: That the epoch took, its score included.
    """

    real_steps: int
    mean: float
    std: float
    returns: tuple[float, ...]
    branch_length: int
    critic: float | None
    critic_limit: float | None
    diverged: bool
    seconds: float


@alone_in("out_dir")
def learn_mbpo(
    real: RealEnvSpec,
    out_dir: str | Path,
    options: MBPOOptions | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> list[Epoch]:
    """Learn from real steps and dreamed branches, and leave the agent in `<out_dir>/agent.zip`.

    The ensemble is left in `<out_dir>/bundle`, a dream like any other; mbpo.json holds settings and epochs. Each epoch
    begins from the checkpoint of the one before, also in a run that nobody interrupts: the same call continues a run
    that was killed, and on the CPU it ends as an unbroken one.

    Args:
        real: The real environment, of vector observations that hold all there is to know.
        out_dir: Folder.
        options: Hyperparameters; None takes the defaults.
        seed: Of everything.
        device: Of agent and ensemble.
        on_epoch: Called after each epoch.

    Raises:
        ConfigurationError: Observations that are no vector, actions that the algorithm does not take, branches longer
            than episodes, or a folder that holds a run with other settings.
        BundleError: A checkpoint that is damaged.
        NonFiniteError: Dream, fit or critic became NaN or infinite.
    """
    folder, options = Path(out_dir), options or MBPOOptions()
    if seed < 0:
        raise ConfigurationError(f"seed must be at least 0, got {seed}")
    settings = plain_values({"real": real.to_json(), "seed": seed, "options": options})
    epochs = _begun(folder, settings)
    before = len(epochs)
    for number in range(before, math.ceil(options.steps / options.epoch)):
        begun = time.perf_counter()
        run = _Epoch(real, folder, options, seed, number, device)
        try:
            epoch = run.learn(begun)
        finally:
            run.close()
        epochs.append(epoch)
        write_json(folder / "mbpo.json", {**settings, "epochs": [asdict(row) for row in epochs]})
        shutil.rmtree(_checkpoint(folder, number - 1), ignore_errors=True)
        on_epoch(epoch)
    if len(epochs) > before or not (folder / "bundle" / CONFIG_FILE).exists():
        _write_bundle(real, folder, options, seed, epochs[-1].real_steps, _checkpoint(folder, len(epochs) - 1))
    return epochs


def read_mbpo(out_dir: str | Path) -> list[Epoch]:
    """The epochs of a run so far.

    Raises:
        BundleError: mbpo.json is missing or damaged.
    """
    file = Path(out_dir) / "mbpo.json"
    try:
        rows = read_json(file)["epochs"]
        return [Epoch(**{**row, "returns": tuple(row["returns"])}) for row in rows]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{file}: no record of a run of MBPO ({error!r}); begin in another folder") from error


def _begun(folder: Path, settings: dict[str, Any]) -> list[Epoch]:
    """The epochs so far. There is no record before the first one has ended: settings that cannot work leave none."""
    if not (folder / "mbpo.json").exists():
        return []
    file = folder / "mbpo.json"
    epochs, found = read_mbpo(folder), read_json(file)
    for name, wanted in settings.items():
        if found.get(name) != wanted:
            before, now = what_differs(found.get(name), wanted)
            raise ConfigurationError(
                f"{folder} holds a run with {name}={before!r}, this call has {now!r}. Take another folder, "
                "or the same settings to continue."
            )
    return epochs


def _write_bundle(
    real: RealEnvSpec, folder: Path, options: MBPOOptions, seed: int, real_steps: int, checkpoint: Path
) -> None:
    """The ensemble as a world model whose dreams begin where real episodes have begun, or at any real moment."""
    # The agent has learned from the same real steps as the model, and from no others
    write_provenance(folder / "agent.zip", {"real_frames": 0, "seed": seed})
    model = _new_model(real, options, seed)
    memory, _ = load_tensors(checkpoint / "model.safetensors")
    model.memory.load_state_dict(memory)
    replay, _ = load_tensors(checkpoint / "replay.safetensors")
    seen, followed = (replay[name].flatten(0, 1).float() for name in ("observations", "next_observations"))
    # Behind an end, and where an epoch has begun anew, a moment does not follow from the one before
    begins = torch.cat([torch.ones(1, dtype=torch.bool), (seen[1:] != followed[:-1]).any(1)])
    noise = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(seen), (min(_REPLAY_STARTS, len(seen)),), generator=noise)
    limit = real.max_episode_steps or model.real.max_episode_steps
    assert limit is not None  # the ensemble was made of an environment that has one
    WorldModel(
        model.vision,
        model.memory,
        replace(
            real,
            max_episode_steps=limit,
            frames_per_second=real.frames_per_second or model.real.frames_per_second,
        ),
        model.action_space,
        StartStates(
            seen[begins],
            model.memory.initial(seen[drawn], noise=noise)._asdict(),
        ),
        max_episode_steps=math.ceil(limit / real.action_repeat),
        provenance={
            "real_steps": real_steps,
            "real_frames": real_steps * real.action_repeat,
            "seed": seed,
            "recipe": "ensemble",
            "options": {"memory": plain(options.model), "fit": plain(options.fit)},
        },
    ).save(folder / "bundle")


def _new_model(real: RealEnvSpec, options: MBPOOptions, seed: int) -> WorldModel:
    """The ensemble before its first fit."""
    with closing(make_real_env(real)) as env:
        model = ensemble_world_model(env, seed=seed, **asdict(options.model))
    # The environment's limit is in frames, a dream's in actions
    model.max_episode_steps = math.ceil(model.max_episode_steps / real.action_repeat)
    return model


def _checkpoint(folder: Path, number: int) -> Path:
    return folder / "checkpoint" / f"{number:04d}"


def _first_seed(seed: int) -> int:
    """Of a run's epochs, which count on from it; runs from 100 on leave out what would be seeds of the scores."""
    return 10_000 * (seed if seed < 100 else seed + 100)


class _WholeRun(BaseCallback):
    """What falls while an algorithm learns, such as DQN's exploration, falls over all steps of the run: each epoch is a
    call of `learn`, which takes its own steps for all."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._steps = steps

    def _on_training_start(self) -> None:
        self.model._total_timesteps = self._steps

    def _on_step(self) -> bool:
        return True


class _Epoch:
    """One epoch, from the checkpoint of the last one to its own."""

    def __init__(
        self, real: RealEnvSpec, folder: Path, options: MBPOOptions, seed: int, number: int, device: str
    ) -> None:
        self._real, self._folder, self._options, self._number = real, folder, options, number
        self._run_seed, self._seed = seed, _first_seed(seed) + number
        self._envs: Any = DummyVecEnv([partial(self._env, options.episode)])
        self._model = _new_model(real, options, seed).to(device)
        self._agent = self._algorithm(seed, device)
        if number:
            self._restore(_checkpoint(folder, number - 1))
        self._agent.set_random_seed(self._seed)

    def learn(self, begun: float) -> Epoch:
        """Learn, write the checkpoint, score."""
        options = self._options
        mixing = MixingCallback(
            self._model,
            refit_every=options.refit_every,
            rollout_every=options.rollout_every,
            rollout_batch=options.rollout_batch,
            schedule=options.branches,
            refit=self._fit,
            seed=self._seed,
        )
        critic = CriticCallback(every=options.critic_every)
        steps = min(options.epoch, options.steps - self._number * options.epoch)
        callbacks = [mixing, critic, _WholeRun(options.steps)]
        try:
            self._agent.learn(steps, callback=callbacks, reset_num_timesteps=False)
        except ValueError:
            critic.check_policy()  # torch refuses to draw from what is NaN, and does not say why it is
            raise
        critic.look()
        self._keep(_checkpoint(self._folder, self._number))
        returns = self._score()
        return Epoch(
            self._agent.num_timesteps,
            statistics.fmean(returns),
            statistics.stdev(returns) if len(returns) > 1 else 0.0,
            tuple(returns),
            mixing.schedule.length(self._agent.num_timesteps),
            critic.value,
            critic.limit if math.isfinite(critic.limit) else None,
            critic.diverged_at is not None,
            round(time.perf_counter() - begun, 1),
        )

    def _fit(self, transitions: Transitions) -> dict[str, float]:
        """By the run's seed in every epoch: it decides which transitions are held out, and weights go on."""
        memory: Any = self._model.memory
        return refit_ensemble(memory, transitions, asdict(self._options.fit), seed=self._run_seed)

    def close(self) -> None:
        """Close the environments."""
        self._envs.close()

    def _env(self, episode: int | None = None) -> Any:
        env: Any = make_real_env(self._real)
        return Monitor(env if episode is None else TimeLimit(env, episode))

    def _algorithm(self, seed: int, device: str) -> OffPolicyAlgorithm:
        options = self._options
        check_settings(options.algo, options.agent, own=_OWN)
        kind: Any = algorithm(options.algo, self._envs.action_space)
        if not issubclass(kind, OffPolicyAlgorithm):
            raise ConfigurationError(
                f"algo={options.algo!r} learns from its own steps alone; take sac, td3, ddpg, tqc "
                "or sbx_sac for Box actions, dqn for Discrete ones"
            )
        buffer = {"real_fraction": options.real_fraction, "retain": options.retain, "seed": self._seed}
        if self._number:
            # The class of the buffer is not read from the file, nor is the seed of the epoch before
            changed = {"replay_buffer_class": MixedReplayBuffer, "replay_buffer_kwargs": buffer}
            file = _checkpoint(self._folder, self._number - 1) / "agent.zip"
            if not file.exists():
                raise BundleError(f"{file} is missing, without which this run cannot go on; begin in another folder")
            loaded: OffPolicyAlgorithm = kind.load(file, env=self._envs, device=device, custom_objects=changed)
            return loaded
        made: Any = new_model(
            options.algo,
            self._envs,
            options.agent,
            buffer_size=options.steps,
            learning_starts=options.learning_starts,
            train_freq=1,
            gradient_steps=options.updates,
            replay_buffer_class=MixedReplayBuffer,
            replay_buffer_kwargs=buffer,
            seed=seed,
            device=device,
        )
        assert isinstance(made, OffPolicyAlgorithm)
        return made

    def _buffer(self) -> MixedReplayBuffer:
        buffer = self._agent.replay_buffer
        assert isinstance(buffer, MixedReplayBuffer)
        return buffer

    def _keep(self, place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)
        memory = self._model.memory
        save_tensors(place / "model.safetensors", memory.state_dict(), {"config": memory.config()})
        save_tensors(place / "replay.safetensors", self._buffer().tensors(), {})
        for file in (place / "agent.zip", self._folder / "agent.zip"):
            with atomic(file) as temporary, temporary.open("wb") as out:
                self._agent.save(out)

    def _restore(self, place: Path) -> None:
        memory, _ = load_tensors(place / "model.safetensors")
        self._model.memory.load_state_dict(memory)
        replay, _ = load_tensors(place / "replay.safetensors")
        self._buffer().load_tensors(replay)

    def _score(self) -> list[float]:
        envs = DummyVecEnv([self._env] * self._options.score_episodes)
        envs.seed(_SCORE_SEED)
        try:
            found: Any = evaluate_policy(
                self._agent, envs, self._options.score_episodes, return_episode_rewards=True, warn=False
            )
        finally:
            envs.close()
        return [float(value) for value in found[0]]
