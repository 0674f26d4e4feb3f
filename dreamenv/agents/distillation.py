"""Distilling a planner: a network learns its decisions, the planner searches with the network, and again.

With a tree search this is expert iteration (Anthony et al. 2017, "Thinking fast and slow with deep learning and tree
search"), as AlphaZero does it (Silver et al. 2018); who acts while the planner decides is mixed as in DAgger (Ross et
al. 2011).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from gymnasium import spaces

from dreamenv.agents.decision_parts import decide_in_parts
from dreamenv.agents.decisions import Decisions, Expert, decide_in_dream, decide_in_environment
from dreamenv.agents.distilled import DistilledAgent
from dreamenv.agents.imitation import held_out_rows, learn, student_of
from dreamenv.agents.mpc import guided, planner_called
from dreamenv.agents.options import DistillationOptions
from dreamenv.agents.policy_value import PolicyValue
from dreamenv.agents.saved import AGENT_FILE, check_free, read_agent, save_agent
from dreamenv.envs.elsewhere import check_on_cpu
from dreamenv.envs.loading import open_world_model
from dreamenv.errors import ConfigurationError
from dreamenv.keywords import check_known
from dreamenv.options import what_differs
from dreamenv.planners.arguments import check_discount
from dreamenv.planners.base import Guidable, Planner
from dreamenv.planners.environment_search import search_environment
from dreamenv.run_lock import alone_in
from dreamenv.tensor_files import tensors_fingerprint
from dreamenv.training.checkpoint import load_tensors, save_tensors
from dreamenv.training.fit import Scalars
from dreamenv.workers import AnyWorkers, find_place
from dreamenv.world_model import WorldModel

Progress = Callable[[str, int, int, Scalars], None]
# With other values of these a run goes on; the part is recorded where workers dream
_FREE = {"rounds", "part"}
_FIRST_DECISIONS = "rounds/00/decisions.safetensors"


class Distilled(NamedTuple):
    """What came of it: the agent, its file, and figures of each round on decisions that were not learned from."""

    agent: DistilledAgent
    file: Path
    rounds: list[Scalars]


def _silent(stage: str, step: int, steps: int, scalars: Scalars) -> None:
    pass


@alone_in("out_dir")
def distill(
    world_model: WorldModel | str | Path,
    planner: Planner | str,
    *,
    out_dir: str | Path,
    options: DistillationOptions | None = None,
    seed: int = 0,
    workers: AnyWorkers = None,
    progress: Progress = _silent,
    report: Callable[[str], None] = print,
) -> Distilled:
    """Learn the decisions of a planner in the dream, and leave the agent in `out_dir`.

    A call that was killed continues when it is made again, round by round; on the CPU it ends as an unbroken one.

    Args:
        world_model: The dream in which the planner plans and plays, its id or its folder.
        planner: The expert, or its name ("planner:cem,horizon=12").
        out_dir: Folder of rounds/ and agent.safetensors.
        options: Hyperparameters; None takes their defaults.
        seed: Of weights, dreams and batches.
        workers: Who dreams parts of a round's dreams, each on one thread (see `dreamenv.workers.find_place`); the
            result is the same for all of them, 0 included. None dreams them all at once in this process, on all of
            torch's threads, with other random numbers. They are spawned, so a script needs its
            `if __name__ == "__main__"`.
        progress: Called with a round's stage, its step, steps and scalars.
        report: Receives a line whenever a worker dies, and one where the planner takes no guide.

    Raises:
        ConfigurationError: A planner that cannot plan in this dream, or that local processes cannot be given; a folder
            of another distillation or with another agent; or workers, and a model that is not on the CPU.
        NonFiniteError: A dreamed return or a loss that is not finite.
        FolderInUseError: Another process works in `out_dir`.
    """
    model = open_world_model(world_model)
    options = options or DistillationOptions()
    if isinstance(planner, str):
        planner = _expert_called(planner, model)
    planner.cold(model, 1)  # refuses actions that cannot be planned
    place = None if workers is None else find_place(workers, -(-options.dreams // options.part))
    if place is not None:
        check_on_cpu(model)
    check_discount(options.discount)  # a dream has one player
    expert, how = planner, _how(options)
    if options.rounds > 1 and not isinstance(expert, Guidable):
        report(
            f"planner {planner.scheme!r} takes no guide: it decides alike in all {options.rounds} rounds, in the later "
            "ones where the network of the round before leads"
        )

    def decide(student: PolicyValue | None, number: int) -> Decisions:
        searching = expert
        if student is not None and isinstance(expert, Guidable):
            searching = expert.guided(student)

        def tell(step: int, steps: int) -> None:
            progress(f"round {number} decide", step, steps, {})

        dreamed = (model, searching, student, how)
        if place is None:
            return decide_in_dream(*dreamed, seed=[seed, number], progress=tell)
        return decide_in_parts(
            *dreamed, size=options.part, place=place, seed=[seed, number], progress=tell, report=report
        )

    record = {"real_id": model.real.id, "real_frames": 0, "trained_in": "dream", "planner": _described(planner)}
    record |= {"model": model.fingerprint(), "weights": model.weights_digest()} | (
        {} if place is None else {"part": options.part}
    )
    return _Rounds(Path(out_dir), options, seed, record, progress).run(
        decide,
        (model.observation_space("features"), model.action_space, "features"),
        model.device,
    )


def _expert_called(name: str, world_model: WorldModel) -> Planner:
    """The planner of an agent's name, and the guide that it names.

    Raises:
        ConfigurationError: A setting of the agent that would be ignored.
    """
    planner, own = planner_called(name)
    for setting, reason in (("seed", "the distillation has its own"), ("execute", "every decision is planned for")):
        if setting in own:
            raise ConfigurationError(f"{name!r}: {setting} has no use here, since {reason}; leave it out")
    return guided(planner, own["guide"], world_model) if "guide" in own else planner


@alone_in("out_dir")
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
        out_dir, options, seed, progress: As for `distill`; `dreams`, `part` and `replay_share` have no use here.
        search: Keyword arguments of `search_environment`, such as `{"simulations": 50}`.

    Raises:
        ConfigurationError: An environment that cannot be searched, or a folder of another distillation or with another
            agent.
        FolderInUseError: Another process works in `out_dir`.
    """
    options, search = options or DistillationOptions(), dict(search or {})
    _check_search(search)
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
                _how(options),
                seed=[seed, number],
                progress=lambda step, steps: progress(f"round {number} decide", step, steps, {}),
            )

        real_id = env.spec.id if env.spec else type(env.unwrapped).__name__
        planner = {"scheme": "search_environment"} | search
        record = {"real_id": real_id, "trained_in": "reality", "planner": planner}
        rounds = _Rounds(Path(out_dir), options, seed, record, progress)
        return rounds.run(decide, (space, actions, "latent"), torch.device("cpu"))
    finally:
        env.close()


def _how(options: DistillationOptions) -> Expert:
    return Expert(**{field.name: getattr(options, field.name) for field in fields(Expert)})


class _Rounds:
    """The rounds, each of which leaves its decisions and its agent in a folder."""

    def __init__(
        self, folder: Path, options: DistillationOptions, seed: int, record: dict[str, Any], progress: Progress
    ) -> None:
        self._folder, self._options, self._seed, self._progress = folder, options, seed, progress
        chosen = {name: value for name, value in asdict(options).items() if name not in _FREE}
        self._settings: dict[str, Any] = json.loads(json.dumps({"options": chosen, "seed": seed} | record))

    def run(
        self,
        decide: Callable[[PolicyValue | None, int], Decisions],
        seen: tuple[gym.Space[Any], gym.Space[Any], str],
        device: torch.device,
    ) -> Distilled:
        """All of them: decide, learn from the newest decisions, and again."""
        space, action_space, observation = seen
        options, seed = self._options, self._seed
        network: PolicyValue | None = None
        history: list[Scalars] = []
        kept: list[Decisions] = []
        check_free(self._folder, _FIRST_DECISIONS)
        for number in range(options.rounds):
            folder = self._folder / "rounds" / f"{number:02d}"
            kept = [*kept, self._decided(folder / "decisions.safetensors", decide, network, number)][-options.window :]
            if (folder / AGENT_FILE).exists():
                found: Any = read_agent(folder / AGENT_FILE)
                network = found.guide.to(device)
                history.append(found.provenance["held_out"])
                continue
            decisions = Decisions(*(torch.cat(parts) for parts in zip(*kept, strict=True)))
            network = student_of(network, decisions, action_space, options, seed).to(device)
            tell = partial(self._progress, f"round {number} learn")
            unseen = held_out_rows(kept)
            history.append(learn(network, decisions, unseen, options, folder, self._settings, seed + number, tell))
            agent = DistilledAgent(network, space, action_space, observation=observation)
            agent.provenance = self._settings | {"round": number, "held_out": history[-1]}
            save_agent(agent, folder)
        assert network is not None
        agent = DistilledAgent(network, space, action_space, observation=observation)
        agent.provenance = self._settings | {"held_out": history[-1], "rounds": options.rounds}
        return Distilled(agent, save_agent(agent, self._folder), history)

    def _decided(
        self,
        file: Path,
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
            if record.get("settings") != self._settings:
                before, now = what_differs(record.get("settings"), self._settings)
                raise ConfigurationError(
                    f"{file} is of a distillation with other settings ({before} there, {now} here). Take another "
                    "folder, or the same settings to continue."
                )
            return Decisions(**tensors)
        decisions = decide(student, number)
        save_tensors(file, decisions._asdict(), {"settings": self._settings})
        return decisions


def _check_search(search: Mapping[str, Any]) -> None:
    """Refuse keyword arguments that `search_environment` does not take, or is given otherwise.

    Raises:
        ConfigurationError: Such keyword arguments.
    """
    sources = {"discount": "options.discount", "generator": "seed", "seen": "the network", "env": "make"}
    own = {word: f"search: {word} follows from {source}; leave it out" for word, source in sources.items()}
    check_known(search, search_environment, own=own, unknown="search: search_environment takes no")


def _described(planner: Planner) -> dict[str, Any]:
    """A planner's settings by name."""
    found: dict[str, Any] = (
        {entry.name: getattr(planner, entry.name) for entry in fields(planner)} if is_dataclass(planner) else {}
    )
    return {"scheme": planner.scheme} | {name: _told(value) for name, value in found.items()}


def _told(value: Any) -> Any:
    """A setting for JSON; of a network's method, such as a guide's policy, what changes with its weights."""
    if value is None or isinstance(value, (int, float, str)):
        return value
    network = getattr(value, "__self__", value)
    if not isinstance(network, torch.nn.Module):
        return True
    return tensors_fingerprint(network.state_dict())
