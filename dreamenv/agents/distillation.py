"""Distilling a planner: a network learns its decisions, the planner searches with the network, and again.

With a tree search this is expert iteration (Anthony et al. 2017, "Thinking fast and slow with deep learning and tree
search"), as AlphaZero does it (Silver et al. 2018); who acts while the planner decides is mixed as in DAgger (Ross et
al. 2011).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from dreamenv.agents.decisions import Decisions, Expert, decide_in_dream, decide_in_environment
from dreamenv.agents.distilled import DistilledAgent, PolicyValue
from dreamenv.agents.mpc import mpc_agent
from dreamenv.agents.options import HELD_OUT, DistillationOptions
from dreamenv.agents.saved import AGENT_FILE, read_agent, save_agent
from dreamenv.errors import ConfigurationError
from dreamenv.memory.heads import masked_mean
from dreamenv.noise.base import seeded_weights
from dreamenv.planners.base import Planner
from dreamenv.training.checkpoint import load_tensors, save_tensors
from dreamenv.training.fit import FitOptions, Losses, Scalars, fit
from dreamenv.world_model import WorldModel

Progress = Callable[[str, int, int, Scalars], None]
# Returns are to fit below the largest value that the network can say, so many times
_ROOM, _LEAST_BOUND = 4.0, 1000.0


class Distilled(NamedTuple):
    """What came of it: the agent, its file, and figures of each round on decisions that were not learned from."""

    agent: DistilledAgent
    file: Path
    rounds: list[Scalars]


def _silent(stage: str, step: int, steps: int, scalars: Scalars) -> None:
    pass


def distill(
    world_model: WorldModel,
    planner: Planner | str,
    *,
    out_dir: str | Path,
    options: DistillationOptions | None = None,
    seed: int = 0,
    progress: Progress = _silent,
) -> Distilled:
    """Learn the decisions of a planner in the dream, and leave the agent in `out_dir`.

    A call that was killed continues when it is made again, round by round; on the CPU it ends as an unbroken one.

    Args:
        world_model: The dream in which the planner plans and plays.
        planner: The expert, or its name ("planner:cem,horizon=12").
        out_dir: Folder of rounds/ and agent.safetensors.
        options: Hyperparameters; None takes their defaults.
        seed: Of weights, dreams and batches.
        progress: Called with a round's stage, its step, steps and scalars.

    Raises:
        ConfigurationError: A planner that cannot plan in this dream, or a folder of another distillation.
        NonFiniteError: A dreamed return or a loss that is not finite.
    """
    options = options or DistillationOptions()
    if isinstance(planner, str):
        planner = mpc_agent(planner, world_model).planner
    planner.cold(world_model, 1)  # refuses actions that cannot be planned
    expert = planner

    def decide(student: PolicyValue | None, number: int) -> Decisions:
        guided = expert
        if student is not None and hasattr(expert, "guided"):
            guided = expert.guided(student)
        return decide_in_dream(
            world_model,
            guided,
            student,
            Expert(**{field.name: getattr(options, field.name) for field in fields(Expert)}),
            seed=[seed, number],
            progress=lambda step, steps: progress(f"round {number} decide", step, steps, {}),
        )

    record = {"real_id": world_model.real.id, "real_frames": 0, "trained_in": "dream", "planner": _described(planner)}
    return _iterate(
        decide,
        (world_model.observation_space("features"), world_model.action_space, "features"),
        Path(out_dir),
        options,
        record | {"model": world_model.fingerprint()},
        seed,
        progress,
        world_model.device,
    )


def distill_environment(
    make: Callable[[], gym.Env[Any, Any]],
    *,
    out_dir: str | Path,
    search: dict[str, Any] | None = None,
    options: DistillationOptions | None = None,
    seed: int = 0,
    progress: Progress = _silent,
) -> Distilled:
    """Learn the decisions of a tree search in copies of a real environment; otherwise as `distill`.

    The agent reads the environment's own observations.

    Args:
        make: Makes the environment, whose observations are vectors and whose actions are Discrete; it must be one that
            can be copied (see `search_environment`).
        out_dir, options, seed, progress: As for `distill`; `dreams` and `replay_share` have no use here.
        search: Keyword arguments of `search_environment`, such as `{"simulations": 50}`.

    Raises:
        ConfigurationError: An environment that cannot be searched, or a folder of another distillation.
    """
    options, search = options or DistillationOptions(), dict(search or {})
    env = make()
    try:
        space, actions = env.observation_space, env.action_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1 or not isinstance(actions, spaces.Discrete):
            raise ConfigurationError(
                f"got observations {space} and actions {actions}; expected vectors and Discrete actions. "
                "gymnasium.wrappers.FlattenObservation makes vectors; Box actions: distill a planner in a dream."
            )

        def decide(student: PolicyValue | None, number: int) -> Decisions:
            return decide_in_environment(
                env,
                search,
                student,
                Expert(**{field.name: getattr(options, field.name) for field in fields(Expert)}),
                seed=[seed, number],
                progress=lambda step, steps: progress(f"round {number} decide", step, steps, {}),
            )

        record = {"real_id": env.spec.id if env.spec else type(env.unwrapped).__name__, "trained_in": "reality"}
        return _iterate(
            decide,
            (space, actions, "latent"),
            Path(out_dir),
            options,
            record | {"planner": {"scheme": "search_environment"} | search},
            seed,
            progress,
            torch.device("cpu"),
        )
    finally:
        env.close()


def _iterate(
    decide: Callable[[PolicyValue | None, int], Decisions],
    seen: tuple[gym.Space[Any], gym.Space[Any], str],
    out_dir: Path,
    options: DistillationOptions,
    record: dict[str, Any],
    seed: int,
    progress: Progress,
    device: torch.device,
) -> Distilled:
    """The rounds, each of which leaves its decisions and its agent in a folder."""
    space, action_space, observation = seen
    settings = {"options": {k: v for k, v in asdict(options).items() if k != "rounds"}, "seed": seed} | record
    network: PolicyValue | None = None
    history: list[Scalars] = []
    kept: list[Decisions] = []
    for number in range(options.rounds):
        folder = out_dir / "rounds" / f"{number:02d}"
        kept = [*kept, _decided(folder / "decisions.safetensors", settings, decide, network, number)][-options.window :]
        decisions = Decisions(*(torch.cat(parts) for parts in zip(*kept, strict=True)))
        if (folder / AGENT_FILE).exists():
            found: Any = read_agent(folder / AGENT_FILE)
            network = found.guide.to(device)
            history.append(found.provenance["held_out"])
            continue
        network = _student(network, decisions, action_space, options, seed).to(device)
        scalars = _learn(network, decisions, options, folder, settings, seed + number, number, progress)
        history.append(scalars)
        agent = DistilledAgent(network, space, action_space, observation=observation)
        agent.provenance = settings | {"round": number, "held_out": scalars}
        save_agent(agent, folder)
    assert network is not None
    agent = DistilledAgent(network, space, action_space, observation=observation)
    agent.provenance = settings | {"held_out": history[-1], "rounds": options.rounds}
    return Distilled(agent, save_agent(agent, out_dir), history)


def _decided(
    file: Path,
    settings: dict[str, Any],
    decide: Callable[[PolicyValue | None, int], Decisions],
    student: PolicyValue | None,
    number: int,
) -> Decisions:
    """The decisions of a round, from its file where there is one.

    Raises:
        ConfigurationError: The file is of another distillation.
    """
    if file.exists():
        tensors, record = load_tensors(file)
        if record.get("settings") != _plain(settings):
            raise ConfigurationError(
                f"{file} is of a distillation with other settings. Take another folder, or the same settings to "
                "continue."
            )
        return Decisions(**tensors)
    decisions = decide(student, number)
    save_tensors(file, decisions._asdict(), {"settings": _plain(settings)})
    return decisions


def _student(
    before: PolicyValue | None,
    decisions: Decisions,
    action_space: gym.Space[Any],
    options: DistillationOptions,
    seed: int,
) -> PolicyValue:
    """A copy of the network of the round before, or a fresh one in units of what it is to see."""
    bound = before.value_bound if before else _LEAST_BOUND
    while bound < _ROOM * float(decisions.value.abs().max()):
        bound *= 2
    with seeded_weights(seed):
        network = PolicyValue(decisions.features.shape[1], action_space, width=options.width, value_bound=bound)
    if before is not None:
        network.load_state_dict(before.state_dict())
        return network
    network.mean.copy_(decisions.features.mean(0))
    # What never changed has no unit
    spread = decisions.features.std(0)
    network.std.copy_(torch.where(spread > 1e-4, spread, 1.0))
    return network


def _learn(
    network: PolicyValue,
    decisions: Decisions,
    options: DistillationOptions,
    folder: Path,
    settings: dict[str, Any],
    seed: int,
    number: int,
    progress: Progress,
) -> Scalars:
    device = network.mean.device
    decisions = Decisions(*(part.to(device) for part in decisions))
    held_out = torch.arange(len(decisions.value), device=device) % HELD_OUT == 0
    training = Decisions(*(part[~held_out] for part in decisions))
    unseen = Decisions(*(part[held_out] for part in decisions))

    def of(batch: Decisions) -> Losses:
        features = network.standard(batch.features)
        policy = network.actor.imitation_loss(features, batch.behaviour).mean()
        value = network.critic.loss(features, batch.value).mean()
        return {"loss": policy + options.value_weight * value, "policy": policy, "value": value}

    def losses(step: int) -> Losses:
        rows = np.random.default_rng([seed, step]).integers(len(training.value), size=options.batch_size)
        index = torch.from_numpy(rows).to(device)
        return of(Decisions(*(part[index] for part in training)))

    def validate() -> Scalars:
        scalars = {name: float(value) for name, value in of(unseen).items()}
        spread = float(unseen.value.var(unbiased=False).clamp(min=1e-12))
        missed = float((network.value(unseen.features) - unseen.value).square().mean())
        return scalars | {"agreement": _agreement(network, unseen), "value_explained": 1 - missed / spread}

    fitted = fit(
        network,
        losses,
        validate,
        FitOptions(
            options.steps,
            options.learning_rate,
            clip=10.0,
            validate_every=min(250, options.steps),
            precision="float32",
        ),
        checkpoint=folder / "checkpoint.safetensors",
        settings=_plain(settings),
        progress=lambda step, steps, scalars: progress(f"round {number} learn", step, steps, scalars),
    )
    return fitted.best


def _agreement(network: PolicyValue, decisions: Decisions) -> float:
    """Share of decisions in which the likeliest action is the planner's: the same, or within a tenth of a Box."""
    outputs = network.actor.network(network.standard(decisions.features))
    if network.actor.discrete:
        same = outputs.argmax(-1) == decisions.behaviour.argmax(-1)
    else:
        same = ((outputs.chunk(2, -1)[0].tanh() - decisions.behaviour).abs() < 0.2).all(-1)
    return float(masked_mean(same.float(), torch.ones_like(same, dtype=torch.float32)))


def _described(planner: Planner) -> dict[str, Any]:
    """A planner's settings by name."""
    found: dict[str, Any] = (
        {entry.name: getattr(planner, entry.name) for entry in fields(planner)} if is_dataclass(planner) else {}
    )
    known = {
        name: value if isinstance(value, (int, float, bool)) or value is None else True for name, value in found.items()
    }
    return {"scheme": planner.scheme} | known


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain
