"""Distillation: the network decides as the planner does, the planner searches with it, and a killed run goes on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from dreamenv.agents import distillation
from dreamenv.agents.decisions import Decisions, returns_of
from dreamenv.agents.distillation import Distilled, distill, distill_environment
from dreamenv.agents.distilled import DistilledAgent
from dreamenv.agents.exploration import _packed
from dreamenv.agents.imitation import held_out_rows
from dreamenv.agents.mpc import MPCAgent, guided, mpc_agent
from dreamenv.agents.options import DistillationOptions
from dreamenv.agents.random_agent import RandomAgent
from dreamenv.agents.resolve import load_agent, resolve_agent
from dreamenv.agents.saved import save_agent
from dreamenv.errors import ConfigurationError, FolderInUseError, SpaceMismatchError, UnknownDreamError
from dreamenv.planners import CEM, MCTS, RandomShooting
from dreamenv.run_lock import run_lock
from dreamenv.training.checkpoint import load_tensors
from dreamenv.workers import AnyWorkers, Parcel
from tests.agents.small_dreams import CHOICE, MOVE, TARGET, StairsMemory, TargetMemory, small_dream
from tests.fakes import trained_like_world_model
from tests.planners.problems import state_at

UP = int(CHOICE.start) + 2
TINY = DistillationOptions(
    rounds=2, decisions=80, dreams=8, steps=120, batch_size=32, width=16, replay_share=0.0, learning_rate=1e-2
)
SEARCH = MCTS(horizon=4, simulations=16, particles=1)


@pytest.fixture(scope="module")
def stairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Distilled, Path]:
    folder = tmp_path_factory.mktemp("stairs")
    return distill(small_dream(StairsMemory(), CHOICE), SEARCH, out_dir=folder, options=TINY, seed=3), folder


def test_the_network_decides_as_the_tree_search(stairs: tuple[Distilled, Path]) -> None:
    found, folder = stairs
    seen = np.linspace(-1, 1, 11, dtype=np.float32)[:, None]
    action, _ = found.agent.predict(seen)
    # Four steps ahead a stair is worth more than it costs
    assert action.tolist() == [UP] * 11
    assert found.agent.predict(seen[0])[0].shape == ()
    assert [round_["agreement"] for round_ in found.rounds] == pytest.approx([1.0, 1.0], abs=0.3)
    again = load_agent(folder)
    np.testing.assert_array_equal(again.predict(seen)[0], action)
    assert again.provenance["rounds"] == 2
    sampled = np.concatenate([found.agent.predict(seen, deterministic=False)[0] for _ in range(20)])
    assert set(sampled.tolist()) <= {UP - 2, UP - 1, UP}


def test_the_second_round_searches_with_the_first_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[Any] = []
    plan = MCTS.plan

    def watched(self: MCTS, *args: Any, **options: Any) -> Any:
        searched.append(self.prior is not None and self.terminal_value is not None and self.rollout == 0)
        return plan(self, *args, **options)

    monkeypatch.setattr(MCTS, "plan", watched)
    distill(small_dream(StairsMemory(), CHOICE), SEARCH, out_dir=tmp_path, options=replace(TINY, steps=2), seed=3)
    assert searched == [False] * 10 + [True] * 10


def test_a_guided_search_begins_from_the_network(stairs: tuple[Distilled, Path]) -> None:
    _, folder = stairs
    model = small_dream(StairsMemory(), CHOICE)
    agent = mpc_agent(f"planner:mcts,horizon=1,simulations=1,particles=1,guide={folder}", model)
    state = state_at(model, 0.0)
    plan = agent.planner.plan(model, state, noise=torch.Generator().manual_seed(0))
    assert plan.action.tolist() == [UP], "one simulation takes the likeliest action"
    assert agent.name is not None
    named = mpc_agent(agent.name, model)
    assert named.name == agent.name
    again = named.planner.plan(model, state, noise=torch.Generator().manual_seed(0))
    torch.testing.assert_close(again.value, plan.value)


def test_box_actions_and_a_proposal_of_the_network(tmp_path: Path) -> None:
    model = small_dream(TargetMemory(), MOVE)
    options = replace(TINY, rounds=1, steps=300, decisions=160)
    cem = CEM(horizon=2, candidates=32, elites=4, iterations=3)
    found = distill(model, cem, out_dir=tmp_path, options=options)
    seen = np.array([[0.0], [0.2], [0.5]], np.float32)
    action, _ = found.agent.predict(seen)
    assert action.shape == (3, 1)
    np.testing.assert_allclose(action[:, 0], TARGET - seen[:, 0], atol=0.12)
    # One candidate in each of which the proposal is all there is to find
    poor = RandomShooting(horizon=1, candidates=1)
    state = state_at(model, 0.0)
    plain, guided = (
        planner.plan(model, state, noise=torch.Generator().manual_seed(0))
        for planner in (poor, poor.guided(found.agent.guide))
    )
    assert plain.action.tolist() == [[0.0]]
    assert float(guided.action) == pytest.approx(TARGET, abs=0.12)
    far = poor.guided(replace_action(found.agent.guide))
    assert far.plan(model, state, noise=torch.Generator().manual_seed(0)).action.tolist() == [[0.0]], "it is worse"


def replace_action(guide: Any) -> Any:
    """A guide that proposes the wrong end of the range."""

    class Wrong:
        value = staticmethod(guide.value)

        @staticmethod
        def action(features: torch.Tensor) -> torch.Tensor:
            return torch.full((len(features), 1), -0.5)

    return Wrong()


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", ["decisions", "fit"])
def test_a_killed_run_ends_as_an_unbroken_one(
    at: str, stairs: tuple[Distilled, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = {"decisions": "save_tensors", "fit": "save_agent"}[at]
    whole = getattr(distillation, name)

    def deadly(*arguments: Any) -> Any:
        if any("01" in str(argument)[-40:] for argument in arguments if isinstance(argument, Path)):
            raise Killed
        return whole(*arguments)

    model = small_dream(StairsMemory(), CHOICE)
    with monkeypatch.context() as patched:
        patched.setattr(distillation, name, deadly)
        with pytest.raises(Killed):
            distill(model, SEARCH, out_dir=tmp_path, options=TINY, seed=3)
    found = distill(model, SEARCH, out_dir=tmp_path, options=TINY, seed=3)
    for name, tensor in stairs[0].agent.tensors().items():
        assert torch.equal(tensor, found.agent.tensors()[name]), name
    assert found.rounds == stairs[0].rounds
    told = rf"with other settings \({{'options': {{'steps': {TINY.steps}}}}} there, {{'options': {{'steps': 3}}}} here"
    with pytest.raises(ConfigurationError, match=told):
        distill(model, SEARCH, out_dir=tmp_path, options=replace(TINY, steps=3), seed=3)


def test_returns() -> None:
    """Three steps of two rows: one ends, the other is cut at the second and goes on."""
    expected = torch.tensor([[10.0, 10.0], [20.0, 20.0], [30.0, 30.0]])
    reward = torch.ones(3, 2)
    ended = torch.tensor([[False, False], [True, False], [False, False]])
    cut = torch.tensor([[False, False], [False, True], [False, False]])
    found = torch.stack(returns_of(expected, reward, ended, cut, discount=0.5))
    assert found.tolist() == [[1.5, 11.0], [1.0, 20.0], [30.0, 30.0]]
    last = torch.stack(returns_of(expected, reward, ended.flip(0).roll(-1, 0), cut & False, discount=0.5))
    assert last[0].tolist()[0] == 1.0


class Corridor(gym.Env[NDArray[np.float32], np.int64]):
    """Places 0 to 3; the right end pays 1 and ends; steps to the left pay nothing."""

    observation_space = spaces.Box(0, 3, (1,), np.float32)
    action_space = spaces.Discrete(2, start=1)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(3))
        return np.array([self.place], np.float32), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self.place = max(self.place + (1 if action == 2 else -1), 0)
        ended = self.place == 3
        return np.array([self.place], np.float32), float(ended), ended, False, {}


def test_a_real_environment_is_searched_on_copies(tmp_path: Path) -> None:
    options = replace(TINY, decisions=40, max_steps=6, value="return", steps=200)
    found = distill_environment(
        Corridor, out_dir=tmp_path, search={"simulations": 12, "horizon": 5}, options=options, seed=1
    )
    seen = np.array([[0.0], [1.0], [2.0]], np.float32)
    assert found.agent.predict(seen)[0].tolist() == [2, 2, 2]
    value = found.agent.guide.value(torch.from_numpy(seen))
    assert bool((value[2] > 0.8) & (value[0] < value[2]))
    tensors, _ = load_tensors(tmp_path / "rounds" / "00" / "decisions.safetensors")
    # The step before the end is worth what the end pays
    last = tensors["features"][:, 0] == 2
    assert float(tensors["value"][last].median()) == 1.0


def test_bad_input(stairs: tuple[Distilled, Path], tmp_path: Path) -> None:
    box, choice = small_dream(TargetMemory(), MOVE), small_dream(StairsMemory(), CHOICE)
    with pytest.raises(ConfigurationError, match=r"mcts searches over Discrete actions, got Box.*'cem'"):
        distill(box, "planner:mcts", out_dir=tmp_path)
    with pytest.raises(ConfigurationError, match="simulations must be an integer of at least 1, got 0"):
        distill(choice, "planner:mcts,simulations=0", out_dir=tmp_path)
    with pytest.raises(ConfigurationError, match="planner .cme. is not known"):
        distill(choice, "planner:cme", out_dir=tmp_path)
    for setting in ("seed=7", "execute=3"):
        with pytest.raises(ConfigurationError, match=f"{setting[:4]}.* has no use here"):
            distill(choice, f"planner:mcts,{setting}", out_dir=tmp_path)
    for search, message in (
        ({"discount": 0.9}, r"search: discount follows from options\.discount"),
        ({"simulation": 3}, "takes no 'simulation'.*simulations"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            distill_environment(lambda: gym.make("CartPole-v1"), out_dir=tmp_path, search=search)
    with pytest.raises(ConfigurationError, match=r"expected vectors and Discrete actions"):
        distill_environment(lambda: gym.make("Pendulum-v1"), out_dir=tmp_path)
    for wrong, message in (
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"value": "plam"}, "value='plam' is not known"),
        ({"student_share": 2.0}, r"student_share must be in \[0, 1\]"),
        ({"discount": 0.0}, "need discount"),
        ({"decisions": 5}, "at least 20 are needed"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            DistillationOptions(**wrong)
    with pytest.raises(ConfigurationError, match="Box actions has no chances"):
        MCTS().guided(box_guide()).plan(choice, state_at(choice, 0.0), noise=torch.Generator().manual_seed(0))
    assert isinstance(MPCAgent(choice, SEARCH), MPCAgent)
    guide = box_guide().to("meta")
    assert {str(bound.device) for bound in (guide.actor.to_action._low, guide.actor.to_action._high)} == {"meta"}
    assert not hasattr(RandomAgent(spaces.Box(0, 1, (1,)), CHOICE, generator=0), "guide")


def box_guide() -> Any:
    from dreamenv.agents.policy_value import PolicyValue

    return PolicyValue.fresh(1, MOVE, width=4)


def test_an_agent_that_cannot_guide(tmp_path: Path) -> None:
    from dreamenv.agents.controller import LinearController

    model = small_dream(StairsMemory(), CHOICE)
    controller = LinearController(np.zeros((3, 2), np.float32), model.observation_space("features"), CHOICE)
    save_agent(controller, tmp_path)
    with pytest.raises(ConfigurationError, match="kind 'linear' has no policy and value to search with"):
        mpc_agent(f"planner:mcts,guide={tmp_path}", model)


def test_another_guide_is_another_distillation(tmp_path: Path) -> None:
    model = small_dream(TargetMemory(), MOVE)
    options = replace(TINY, rounds=1, decisions=20, steps=1)
    first = RandomShooting(horizon=1, candidates=2).guided(box_guide())
    distill(model, first, out_dir=tmp_path, options=options)
    distill(model, first, out_dir=tmp_path, options=options)
    other = box_guide()
    other.load_state_dict({name: part + 1 for name, part in other.state_dict().items()})
    with pytest.raises(ConfigurationError, match="of a distillation with other settings"):
        distill(model, RandomShooting(horizon=1, candidates=2).guided(other), out_dir=tmp_path, options=options)


def test_what_is_held_out_of_a_round_is_so_in_every_fit() -> None:
    """Also where rounds have other lengths, and the oldest is no longer learned from."""
    three = [Decisions(torch.zeros(length, 1), torch.zeros(length, 1), torch.zeros(length)) for length in (23, 31, 27)]
    first, later = held_out_rows(three[:2]), held_out_rows(three[1:])
    assert torch.equal(first[23:], later[:31])
    assert (int(first.sum()), int(later.sum())) == (3 + 4, 4 + 3)


def test_a_guide_goes_along_to_another_process(stairs: tuple[Distilled, Path], tmp_path: Path) -> None:
    there = shutil.copytree(stairs[1], tmp_path / "there")
    model = small_dream(StairsMemory(), CHOICE)
    name = "planner:mcts,horizon=1,simulations=1,particles=1"
    player = resolve_agent(f"{name},guide={there}", model)
    (tmp_path / "over").mkdir()
    described = player.hand_over(model, tmp_path / "over")
    trained_like_world_model(image=False).save(tmp_path / "bundle")
    packed = _packed({"world_model": str(tmp_path / "bundle"), "agent": f"{name},guide={there}"})
    assert packed["agent"] == name
    assert isinstance(packed["guide"], Parcel)
    shutil.rmtree(there)
    (tmp_path / "over").rename(tmp_path / "elsewhere")
    again = described.moved(tmp_path / "over", tmp_path / "elsewhere").resolve(model)
    assert again.label == player.label
    place = np.zeros((1, *player.agent.observation_space.shape), np.float32)
    assert again.agent.predict(place)[0] == player.agent.predict(place)[0]
    with pytest.raises(
        UnknownDreamError, match=r"guide=.*there: no agent is called .*: it is an id, a folder, a file\. "
    ):
        resolve_agent(f"{name},guide={there}", model)


def test_frames_of_a_guide_count(stairs: tuple[Distilled, Path], tmp_path: Path) -> None:
    found, _ = stairs
    agent = DistilledAgent(found.agent.guide, found.agent.observation_space, found.agent.action_space)
    agent.provenance = {"real_frames": 12}
    save_agent(agent, tmp_path)
    model = small_dream(StairsMemory(), CHOICE)
    assert mpc_agent(f"planner:mcts,horizon=1,guide={tmp_path}", model).provenance == {"real_frames": 12}
    assert mpc_agent("planner:mcts,horizon=1", model).provenance == {"real_frames": 0}


class Other:
    """A guide of another package, which is no `PolicyValue`."""

    def __init__(self, network: Any) -> None:
        self.chances, self.action, self.value = network.chances, network.action, network.value

    def to(self, device: Any) -> Other:
        return self


def test_guides_of_other_packages(stairs: tuple[Distilled, Path]) -> None:
    found, folder = stairs
    model = small_dream(StairsMemory(), CHOICE)
    agent = SimpleNamespace(guide=Other(found.agent.guide), observation_space=found.agent.observation_space)
    agent.action_space = found.agent.action_space
    assert isinstance(guided(MCTS(), str(folder), model, agent), MCTS)


class Unguided:
    """A planner of another package, which takes no guide."""

    scheme = "unguided"

    def __init__(self) -> None:
        own = RandomShooting(horizon=1, candidates=2)
        self.length, self.plan, self.cold = own.length, own.plan, own.cold
        self.check_actions, self.shifted = own.check_actions, own.shifted


def test_a_planner_that_takes_no_guide(tmp_path: Path) -> None:
    model = small_dream(TargetMemory(), MOVE)
    told: list[str] = []
    distill(
        model,
        Unguided(),
        out_dir=tmp_path,
        options=replace(TINY, rounds=2, decisions=20, steps=1),
        report=told.append,
    )
    (line,) = told
    assert line.startswith("planner 'unguided' takes no guide: it decides alike in all 2 rounds")
    with pytest.raises(ConfigurationError, match="guide=.*'unguided' takes no guide, since it has no method 'guided'"):
        guided(Unguided(), str(tmp_path), model)
    with pytest.raises(SpaceMismatchError, match="action spaces differ"):
        mpc_agent(f"planner:mcts,guide={tmp_path}", small_dream(StairsMemory(), CHOICE))


QUICK = replace(TINY, decisions=24, dreams=6, part=4, steps=3)


def distilled_by(workers: AnyWorkers, folder: Path, options: DistillationOptions = QUICK, **others: Any) -> Distilled:
    model = small_dream(StairsMemory(), CHOICE)
    return distill(model, SEARCH, out_dir=folder, options=options, seed=3, workers=workers, **others)


def same(one: Distilled, other: Distilled) -> None:
    assert one.rounds == other.rounds
    for name, tensor in one.agent.tensors().items():
        assert torch.equal(tensor, other.agent.tensors()[name]), name


@pytest.mark.integration
def test_other_workers_go_on_with_the_same_parts_and_change_nothing(tmp_path: Path) -> None:
    """In the second round, which searches with the network of the first; in parts of four dreams and of two."""
    told: list[tuple[str, int, int]] = []
    one = distilled_by(0, tmp_path / "0", progress=lambda stage, step, steps, _: told.append((stage, step, steps)))
    assert [each for each in told if "decide" in each[0]] == [
        (f"round {number} decide", step, 4) for number in range(2) for step in (2, 4)
    ]
    first = Path("rounds", "00")
    tensors, _ = load_tensors(tmp_path / "0" / first / "decisions.safetensors")
    places = tensors["features"].reshape(4, 6)
    assert (places.diff(dim=0).abs() < 1.01).all(), "a column is a dream: it goes on by one stair at most"
    assert not torch.equal(places[0, :2], places[0, 4:]), "each part draws numbers of its own"
    shutil.copytree(tmp_path / "0" / first, tmp_path / "2" / first)
    for workers, options in ((None, QUICK), (0, replace(QUICK, part=3))):
        with pytest.raises(ConfigurationError, match="of a distillation with other settings"):
            distilled_by(workers, tmp_path / "2", options)
    same(one, distilled_by(2, tmp_path / "2"))


def test_a_folder_is_one_process_s(tmp_path: Path) -> None:
    with run_lock(tmp_path), pytest.raises(FolderInUseError, match="is in use by process"):
        distilled_by(0, tmp_path)
    with run_lock(tmp_path), pytest.raises(FolderInUseError, match="is in use by process"):
        distill_environment(Corridor, out_dir=tmp_path)


def test_what_workers_cannot_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_dream(StairsMemory(), CHOICE)
    own = replace(SEARCH, terminal_value=lambda features: features[:, 0])
    with pytest.raises(ConfigurationError, match=r"planner 'mcts' cannot be handed to worker processes .*workers=0"):
        distill(model, own, out_dir=tmp_path, options=QUICK, workers=2)
    monkeypatch.setattr(StairsMemory, "device", torch.device("meta"))
    with pytest.raises(ConfigurationError, match="workers dream on the CPU, and the model is on meta"):
        distill(model, SEARCH, out_dir=tmp_path, options=QUICK, workers=0)
    with pytest.raises(ConfigurationError, match="part must be at least 1, got 0"):
        replace(QUICK, part=0)
