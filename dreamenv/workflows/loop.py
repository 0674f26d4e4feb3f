"""The loop: collect, fit a model by a recipe, learn in the dream, collect with what was learned, fit again."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dreamenv.agents.actor_critic import ActorCritic
from dreamenv.agents.exploration import FACTORIES
from dreamenv.agents.imagination import new_actor_critic, train_actor_critic
from dreamenv.agents.options import ImaginationOptions
from dreamenv.data.collect import collect
from dreamenv.data.explore import Exploration
from dreamenv.errors import ConfigurationError
from dreamenv.files import write_json
from dreamenv.scoring.gap import GapOptions, measure_gap, record_agent
from dreamenv.training.checkpoint import load_tensors
from dreamenv.training.fit import Scalars
from dreamenv.training.ledger import read_ledger, record_frames
from dreamenv.training.pipeline import TrainOptions, train
from dreamenv.training.recipes.kinds import RECIPES
from dreamenv.training.tensorboard import TensorBoardRecorder
from dreamenv.types import RealEnvSpec, recorded_fields
from dreamenv.world_model import WorldModel


@dataclass(frozen=True)
class LoopOptions:
    """Hyperparameters of `run_loop`.

    Attributes:
        rounds: Rounds, the first from exploration alone.
        first_frames: Real frames that the first round explores.
        greedy_episodes: Episodes without noise that each later round collects, in expectation.
        noisy_episodes: Episodes with noise that each later round collects; the sum of both is exact.
        train: The recipe and its options. A later round starts from the model before, with what the recipe's `refit`
            makes of them.
        train_ratio: Real steps that the fit of a later round replays for each one that the round has collected; None
            takes the number of steps from the recipe's options.
        agent: The actor-critic; a later round starts from the round before.
        validation_episodes: Real episodes that score each round's agent.
    """

    rounds: int = 6
    first_frames: int = 200_000
    greedy_episodes: int = 8
    noisy_episodes: int = 16
    train: TrainOptions = field(default_factory=TrainOptions)
    train_ratio: float | None = None
    agent: ImaginationOptions = field(default_factory=ImaginationOptions)
    validation_episodes: int = 10

    def __post_init__(self) -> None:
        if min(self.rounds, self.first_frames, self.validation_episodes) < 1:
            raise ConfigurationError("rounds, first_frames and validation_episodes must be at least 1")
        if self.train_ratio is not None and not self.train_ratio > 0:
            raise ConfigurationError(f"train_ratio must be above 0, got {self.train_ratio}")
        if min(self.greedy_episodes, self.noisy_episodes) < 0 or self.greedy_episodes + self.noisy_episodes < 1:
            raise ConfigurationError(
                "a later round needs episodes: greedy_episodes and noisy_episodes are at least 0 and together at least "
                f"1, got {self.greedy_episodes} and {self.noisy_episodes}"
            )


@dataclass(frozen=True)
class Round:
    """One row of the table of rounds.

    Attributes:
        number: From 0.
        real_frames: Consumed so far, validation included.
        collected_return: Mean return of the episodes this round collected.
        dream_mean: Mean return of the round's agent over whole dreams.
        real_mean: Its mean return over the validation episodes.
        real_std: Their sample standard deviation.
        held_out: M's figures on held-out episodes.
        gap: Figures of the gap between dream and reality on the validation episodes (`Gap.scalars`).
    """

    number: int
    real_frames: int
    collected_return: float
    dream_mean: float
    real_mean: float
    real_std: float
    held_out: dict[str, float]
    gap: dict[str, float] = field(default_factory=dict)


def run_loop(
    real: RealEnvSpec,
    run_dir: str | Path,
    options: LoopOptions,
    *,
    explore: Sequence[Exploration] = (),
    max_episode_steps: int | None = None,
    workers: int | None = None,
    seed: int = 0,
    provenance: dict[str, Any] | None = None,
    progress: Callable[[str, int, int, Scalars], None] = lambda stage, step, steps, scalars: None,
    on_round: Callable[[Round], None] = lambda row: None,
) -> list[Round]:
    """Run the loop and leave the best round's model and agent in `<run_dir>/bundle` and `<run_dir>/agent`.

    "Best" is by real validation episodes, whose seeds no evaluation uses. Round r keeps its work in
    `<run_dir>/rounds/<r>`, its episodes in `<run_dir>/episodes/<r>`; rounds.json holds the table (tensorboard/ the same
    as scalars), ledger.json the real frames. A killed loop continues with the same call.

    Args:
        real: The real environment.
        run_dir: Folder.
        options: Hyperparameters.
        explore: Exploration policies of the first round.
        max_episode_steps: The dream's time limit in actions.
        workers: Processes for collecting and validation; 0 does both in this one, None takes one a core.
        seed: Of everything.
        provenance: Recorded in the bundles.
        progress: Called with a stage's name, step, steps and scalars.
        on_round: Called with each finished round.
    """
    run_dir = Path(run_dir)
    _check_same_loop(run_dir, real, options, max_episode_steps, seed)
    table = [Round(**row) for row in _read_json(run_dir / "rounds.json", [])]
    for number in range(len(table), options.rounds):
        folder = run_dir / "rounds" / f"{number:02d}"
        before = run_dir / "rounds" / f"{number - 1:02d}" if number else None
        collected = _collect(real, run_dir, folder, before, options, explore, number, workers, seed)
        record_frames(run_dir, f"collect {number}", collected.real_frames)
        if not (folder / "bundle" / "config.json").exists():  # the file that a bundle is finished with
            train(
                real,
                folder,
                _train_options(options, number, seed, -(-collected.real_frames // real.action_repeat)),
                episodes=run_dir / "episodes",
                begin=WorldModel.load(before / "bundle") if before else None,
                max_episode_steps=max_episode_steps,
                provenance=(provenance or {}) | {"round": number},
                progress=partial(_in_round, progress, number),
            )
        # The agent learns in the very dream that is kept, half precision and all
        model = WorldModel.load(folder / "bundle")
        networks = new_actor_critic(model, options.agent, seed=seed)
        if before is not None:
            _continue_from(networks, before)
        learned = train_actor_critic(
            model,
            out_dir=folder / "agent",
            options=options.agent,
            seed=seed * 1000 + number,
            begin=networks,
            progress=partial(_in_round, progress, number, "agent"),
        )
        played = record_agent(
            folder / "bundle",
            learned.file,
            episodes=options.validation_episodes,
            seed=seed,
            role="validation",
            workers=workers,
        )
        measured = GapOptions(samples=8, moments=8)
        gap = measure_gap(model, learned.agent, played, measured, label="loop", seed=seed)
        ledger = record_frames(run_dir, f"validation {number}", gap.played_frames)
        row = Round(
            number,
            sum(ledger.values()),
            collected.mean_return,
            gap.dream_return,
            gap.real_return,
            float(np.std(gap.real_returns, ddof=1)) if len(played) > 1 else 0.0,
            model.provenance["held_out"],
            gap.scalars(),
        )
        _record(run_dir, row)
        table.append(row)
        write_json(run_dir / "rounds.json", [asdict(entry) for entry in table])
        on_round(row)
    best = max(table, key=lambda row: row.real_mean)
    _keep_best(run_dir, best.number, table)
    return table


def _record(run_dir: Path, row: Round) -> None:
    """TensorBoard scalars of a round, so that one sees a dream go wrong while it happens."""
    recorder = TensorBoardRecorder(run_dir / "tensorboard")
    figures = {"real_frames": row.real_frames, "collected_return": row.collected_return, "real_std": row.real_std}
    recorder.scalars("loop", row.number, figures | row.gap)
    recorder.close()


def _in_round(
    progress: Callable[[str, int, int, Scalars], None], number: int, stage: str, step: int, steps: int, scalars: Scalars
) -> None:
    progress(f"round {number} {stage}", step, steps, scalars)


def _collect(
    real: RealEnvSpec,
    run_dir: Path,
    folder: Path,
    before: Path | None,
    options: LoopOptions,
    explore: Sequence[Exploration],
    number: int,
    workers: int | None,
    seed: int,
) -> Any:
    path = run_dir / "episodes" / f"{number:02d}"
    if before is None:
        return collect(real, path, explore=explore, frames=options.first_frames, workers=workers, seed=seed * 100)
    seeing = {"world_model": str(before / "bundle"), "agent": str(before / "agent")}
    greedy, noisy = options.greedy_episodes, options.noisy_episodes
    policies = [
        Exploration("agent", max(greedy, 1e-9), seeing | {"probability": [0.0, 0.0]}),
        Exploration("agent", max(noisy, 1e-9), seeing | {"probability": [0.1, 0.6]}),
    ]
    return collect(
        real,
        path,
        explore=policies,
        episodes=greedy + noisy,
        workers=workers,
        seed=seed * 100 + number,
        factories=FACTORIES,
    )


def _train_options(options: LoopOptions, number: int, seed: int, collected: int) -> TrainOptions:
    """The round's, in which `collected` real steps were taken."""
    first = replace(options.train, seed=seed)
    if number == 0:
        return first
    replayed = None if options.train_ratio is None else math.ceil(options.train_ratio * collected)
    return replace(first, options=RECIPES[first.recipe]().refit(first.options, replayed=replayed))


def _continue_from(networks: ActorCritic, before: Path) -> None:
    tensors, _ = load_tensors(before / "agent" / "checkpoint.safetensors")
    with torch.no_grad():
        networks.load_state_dict({k.removeprefix("best."): v for k, v in tensors.items() if k.startswith("best.")})


def _keep_best(run_dir: Path, number: int, table: list[Round]) -> None:
    """Copy the best round's bundle and agent to the run's own, with the whole run's real frames in the provenance."""
    source = run_dir / "rounds" / f"{number:02d}"
    model = WorldModel.load(source / "bundle")
    ledger = read_ledger(run_dir)
    model.provenance |= {
        "ledger": ledger,
        "real_frames": sum(ledger.values()),
        "rounds": [asdict(row) for row in table],
        "best_round": number,
    }
    model.save(run_dir / "bundle")
    (run_dir / "agent").mkdir(exist_ok=True)
    shutil.copyfile(source / "agent" / "agent.safetensors", run_dir / "agent" / "agent.safetensors")


def _check_same_loop(
    run_dir: Path, real: RealEnvSpec, options: LoopOptions, max_episode_steps: int | None, seed: int
) -> None:
    """Record a loop's settings in loop.json, or refuse others; only the number of rounds may change."""
    settings: dict[str, Any] = {
        "real": recorded_fields(real.to_json()),
        "max_episode_steps": max_episode_steps,
        "seed": seed,
    }
    for name, value in asdict(options).items():
        settings |= {f"{name}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {name: value}
    settings.pop("rounds")
    wanted = json.loads(json.dumps(settings))
    run_dir.mkdir(parents=True, exist_ok=True)
    found = _read_json(run_dir / "loop.json", {})
    for name, value in wanted.items():
        before = found.get(name, value)  # a setting of a later version is missing in an older file
        if before != value:
            raise ConfigurationError(
                f"{run_dir} holds a loop with {name}={before!r}, this call has {name}={value!r}. "
                "Take another folder, or the same settings to continue."
            )
    if not found:
        write_json(run_dir / "loop.json", wanted)


def _read_json(file: Path, default: Any) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else default
