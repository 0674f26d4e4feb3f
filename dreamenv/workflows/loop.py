"""The loop: collect, fit a model by a recipe, learn in the dream, collect with what was learned, fit again."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import RootModel

from dreamenv.data.explore import Exploration
from dreamenv.data.preprocess import make_real_env
from dreamenv.errors import BundleError, ConfigurationError
from dreamenv.files import write_json
from dreamenv.options import plain_values, what_differs
from dreamenv.run_lock import alone_in
from dreamenv.schema import read_checked
from dreamenv.scoring.gap import GapOptions, measure_gap, record_agent
from dreamenv.training.fit import Scalars
from dreamenv.training.ledger import read_ledger, record_frames
from dreamenv.training.pipeline import check_trainable, real_time_limit
from dreamenv.training.tensorboard import TensorBoardRecorder
from dreamenv.types import RealEnvSpec, recorded_fields
from dreamenv.workers import AnyWorkers
from dreamenv.workflows.continual import Continually
from dreamenv.workflows.grains import ByRounds, Grain, Settings
from dreamenv.workflows.loop_options import LoopOptions
from dreamenv.world_model import WorldModel

_SETTINGS = "loop.json"


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


@alone_in("run_dir")
def run_loop(
    real: RealEnvSpec,
    run_dir: str | Path,
    options: LoopOptions,
    *,
    explore: Sequence[Exploration] = (),
    max_episode_steps: int | None = None,
    workers: AnyWorkers = None,
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
    if not (run_dir / _SETTINGS).exists():
        _check_environment(real, run_dir, options, max_episode_steps)
    _check_same_loop(run_dir, real, options, max_episode_steps, seed)
    table = read_rounds(run_dir)
    settings = Settings(
        real, run_dir, options, tuple(explore), max_episode_steps, workers, seed, provenance or {}, progress
    )
    grain: Grain = ByRounds(settings) if options.update_every is None else Continually(settings)
    for number in range(len(table), options.rounds):
        if _would_pass(options.max_frames, table):
            break
        folder = settings.folder(number)
        learned = grain.round(number)
        record_frames(run_dir, f"collect {number}", learned.collected.real_frames)
        model = WorldModel.load(folder / "bundle")
        agent = learned.player.resolve(model)
        played = record_agent(
            model,
            agent,
            episodes=options.validation_episodes,
            seed=seed,
            workers=workers,
            role="validation",
            at_once=options.episodes_at_once,
        )
        measured = GapOptions(samples=8, moments=8, dreams=options.dreams or options.make_learner().dreams)
        gap = measure_gap(model, agent, played, measured, label="loop", seed=seed)
        ledger = record_frames(run_dir, f"validation {number}", gap.played_frames)
        row = Round(
            number,
            sum(ledger.values()),
            learned.collected.mean_return,
            gap.dream_return,
            gap.real_return,
            float(np.std(gap.real_returns, ddof=1)) if len(played) > 1 else 0.0,
            grain.held_out(model, played),
            gap.scalars(),
        )
        _record(run_dir, row)
        table.append(row)
        write_json(run_dir / "rounds.json", [asdict(entry) for entry in table])
        on_round(row)
    if len(table) <= options.curious_rounds:
        warnings.warn(
            f"all {len(table)} rounds are curious (curious_rounds={options.curious_rounds}): the agent has learned for "
            "disagreement alone, not for the reward. The same call with more rounds goes on",
            stacklevel=2,
        )
    _keep_best(run_dir, best_round(table, options.best_over), table)
    return table


def best_round(table: Sequence[Round], over: int) -> int:
    """The number of the round behind which `over` rounds, itself and those before it, were validated best.

    Of equals the last: a task whose return has an upper end gives every good round the same few scores.
    """
    means = [
        float(np.mean([row.real_mean for row in table[max(0, end - over) : end]])) for end in range(1, len(table) + 1)
    ]
    first = min(over, len(table)) - 1  # fewer rounds than asked for are no mean of so many
    return max(range(first, len(table)), key=lambda number: (means[number], number))


def _check_environment(real: RealEnvSpec, run_dir: Path, options: LoopOptions, max_episode_steps: int | None) -> None:
    """Refuse what recipe and learner would refuse of an environment, before anything is collected in it."""
    with closing(make_real_env(real)) as env:
        check_trainable(env, options.train)
        learner = options.make_learner()
        learner.check_actions(env.action_space)
        learner.player(run_dir)  # refuses a folder whose name it cannot say
        longest = max_episode_steps or real_time_limit(real, env)
        if longest is not None:
            learner.check_dream_length(longest)


def _would_pass(limit: int | None, table: list[Round]) -> bool:
    """Whether one more round like the last one would consume more real frames than `limit` in all."""
    if limit is None or not table:
        return False
    last = table[-1].real_frames - table[-2].real_frames if len(table) > 1 else 0
    return table[-1].real_frames + max(last, 1) > limit


def _record(run_dir: Path, row: Round) -> None:
    """TensorBoard scalars of a round, so that one sees a dream go wrong while it happens."""
    recorder = TensorBoardRecorder(run_dir / "tensorboard")
    figures = {"real_frames": row.real_frames, "collected_return": row.collected_return, "real_std": row.real_std}
    recorder.scalars("loop", row.number, figures | row.gap)
    recorder.close()


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
    # A model that learned continually was measured behind the round
    model.provenance.setdefault("held_out", table[number].held_out)
    model.save(run_dir / "bundle")
    for file in (source / "agent").glob("agent.*"):  # a planner leaves none
        (run_dir / "agent").mkdir(exist_ok=True)
        shutil.copyfile(file, run_dir / "agent" / file.name)


def _check_same_loop(
    run_dir: Path, real: RealEnvSpec, options: LoopOptions, max_episode_steps: int | None, seed: int
) -> None:
    """Record a loop's settings in loop.json, or refuse others; only what ends it may change, what its dreams are
    counted by, and how the best round is found."""
    settings: dict[str, Any] = {
        "real": recorded_fields(real.to_json()),
        "max_episode_steps": max_episode_steps,
        "seed": seed,
    }
    for name, value in asdict(options).items():
        settings |= {f"{name}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {name: value}
    for name in ("rounds", "max_frames", "dreams", "best_over"):
        settings.pop(name)
    wanted = plain_values(settings)
    run_dir.mkdir(parents=True, exist_ok=True)
    file = run_dir / _SETTINGS
    found = dict(read_checked(_LoopSection, file).root) if file.exists() else {}
    for name, value in wanted.items():
        before = found.get(name, value)  # a setting of a later version is missing in an older file
        if before != value:
            then, now = what_differs(before, value)
            raise ConfigurationError(
                f"{run_dir} holds a loop with {name}={then!r}, this call has {name}={now!r}. "
                "Take another folder, or the same settings to continue."
            )
    if not found:
        write_json(file, wanted)


class _LoopSection(RootModel[dict[str, Any]]):
    """loop.json: settings by name."""


class _Table(RootModel[list[Round]]):
    """rounds.json."""


def read_rounds(run_dir: Path) -> list[Round]:
    """The table of rounds in a loop's folder; empty before the first round has come to its end.

    Raises:
        BundleError: rounds.json is damaged, or its rounds are not numbered from 0.
    """
    file = run_dir / "rounds.json"
    table = list(read_checked(_Table, file).root) if file.exists() else []
    if [row.number for row in table] != list(range(len(table))):
        raise BundleError(f"{file}: number: found {[row.number for row in table]}, expected 0, 1, 2, ...")
    return table
