from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from dreamenv.agents import (
    Agent,
    Evolution,
    EvolutionOptions,
    Generation,
    LinearController,
    PopulationOptions,
    ValidationScore,
    evolution,
    evolve,
    load_agent,
    score_population,
)
from dreamenv.errors import BundleError, ConfigurationError, NonFiniteError
from dreamenv.memory import precision
from dreamenv.memory.base import Prediction
from dreamenv.noise.base import Noise, as_noise
from dreamenv.world_model import WorldModel
from tests.fakes import (
    BOX,
    DISCRETE,
    CountingMemory,
    FakeState,
    NoisyMemory,
    fake_world_model,
    trained_like_world_model,
)

HORIZON = 8


class SignMemory(CountingMemory):
    """Pays 1 for action 2 where the first latent is above 0 and for action 1 elsewhere; latents are drawn signs."""

    def imagine(
        self, state: FakeState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[FakeState, Prediction]:
        wanted = torch.where(state.latent[:, 0] > 0, 2, 1)
        reward = (action == wanted).float()
        latent = as_noise(noise).normal(len(action), self.latent_size).sign()
        return FakeState(latent, state.age + 1, state.drawn), Prediction(reward, 0 * reward, reward < 0)


def sign_model() -> WorldModel:
    return fake_world_model(SignMemory(), action_space=DISCRETE, max_episode_steps=HORIZON)


SMALL: dict[str, Any] = {"population": 6, "rollouts": 3, "sigma": 0.5, "seed": 4}


def evolved(model: WorldModel, folder: Path | str, **settings: Any) -> Evolution:
    """`evolve` with the settings that are options among its options."""
    options = {field.name: settings.pop(field.name) for field in fields(EvolutionOptions) if field.name in settings}
    return evolve(model, out_dir=folder, options=EvolutionOptions(**options), **settings)


class CountedValidation:
    """A stand-in for reality that prefers small weights; ten frames an agent."""

    def __init__(self) -> None:
        self.agents: list[LinearController] = []

    def __call__(self, agent: Agent) -> ValidationScore:
        assert isinstance(agent, LinearController)
        self.agents.append(agent)
        mean = -float(np.abs(agent.weights).sum())
        return ValidationScore(mean, (mean,), 10)


def same_run(one: Evolution, other: Evolution) -> None:
    assert one.history == other.history
    np.testing.assert_array_equal(one.agent.weights, other.agent.weights)
    assert one.agent.provenance == other.agent.provenance
    with safe_open(one.file, framework="np") as mine, safe_open(other.file, framework="np") as theirs:
        assert mine.metadata() == theirs.metadata()
        np.testing.assert_array_equal(mine.get_tensor("weights"), theirs.get_tensor("weights"))
    assert (one.best_validation, one.real_frames, one.stopped) == (
        other.best_validation,
        other.real_frames,
        other.stopped,
    )


@pytest.mark.parametrize(("optimiser", "options"), [("cma", {}), ("openai", {"learning_rate": 0.1})])
def test_finds_the_optimum_of_a_small_dream(tmp_path: Path, optimiser: str, options: dict[str, Any]) -> None:
    result = evolved(
        sign_model(),
        tmp_path,
        generations=60,
        optimiser=optimiser,
        optimiser_options=options,
        population=24,
        rollouts=8,
        sigma=0.5,
    )
    assert result.history[0].dream_mean < 0.6 * HORIZON
    assert result.history[-1].dream_best == HORIZON
    loaded = load_agent(tmp_path)
    for sign, wanted in ((1.0, 2), (-1.0, 1)):
        seen = np.array([[sign, other, another, 3.0, 0.0] for other in (-1, 1) for another in (-1, 1)])
        assert (loaded.predict(seen)[0] == wanted).all()


def test_without_validation_no_real_frame_is_used(tmp_path: Path) -> None:
    reports: list[Generation] = []
    result = evolved(sign_model(), tmp_path, generations=3, progress=reports.append, **SMALL)
    assert reports == result.history
    assert [record.index for record in reports] == [1, 2, 3]
    assert all(r.dream_best >= r.dream_median for r in reports)
    assert result.best_validation is None
    assert json.loads((tmp_path / "ledger.json").read_text()) == {"validation": 0}
    assert load_agent(tmp_path).provenance["real_frames"] == 0
    assert len(json.loads((tmp_path / "evolution.json").read_text())["history"]) == 3
    assert not list(tmp_path.glob("*.part"))


def test_the_best_in_reality_is_kept_and_its_frames_are_counted(tmp_path: Path) -> None:
    validate = CountedValidation()
    result = evolved(sign_model(), tmp_path, generations=5, validate=validate, validate_every=2, **SMALL)
    assert [record.index for record in result.history if record.validation_mean] == [2, 4, 5]
    assert len(validate.agents) == 6
    smallest = min(validate.agents, key=lambda agent: float(np.abs(agent.weights).sum()))
    np.testing.assert_array_equal(result.agent.weights, smallest.weights)
    assert result.best_validation is not None
    assert result.best_validation.mean == pytest.approx(-np.abs(smallest.weights).sum())
    assert result.real_frames == 60
    assert [record.real_frames for record in result.history] == [0, 20, 20, 40, 60]
    assert json.loads((tmp_path / "ledger.json").read_text()) == {"validation": 60}
    assert load_agent(tmp_path).provenance["real_frames"] == 60


def test_what_guards_against_exploitation_reaches_the_dream(tmp_path: Path) -> None:
    clipped = evolved(sign_model(), tmp_path / "clipped", generations=1, reward_clip=(2.0, 3.0), **SMALL)
    assert clipped.history[0].dream_mean == 2 * HORIZON
    noisy, quiet = (
        evolved(sign_model(), tmp_path / str(amount), generations=1, action_noise=amount, **SMALL)
        for amount in (1.0, 0.0)
    )
    assert noisy.history[0].dream_best == noisy.history[0].dream_mean  # all candidates do the same
    assert quiet.history[0].dream_best > quiet.history[0].dream_mean
    with pytest.raises(ConfigurationError, match="no members that could disagree"):
        evolved(sign_model(), tmp_path / "cut", generations=1, max_disagreement=0.5, **SMALL)


@pytest.mark.parametrize("optimiser", ["cma", "openai"])
@pytest.mark.parametrize("moment", ["dream", "validation", "progress"])
def test_an_interrupted_run_ends_as_an_unbroken_one(tmp_path: Path, optimiser: str, moment: str) -> None:
    settings: dict[str, Any] = SMALL | {"generations": 6, "optimiser": optimiser, "validate_every": 2}
    settings |= {"reward_clip": (-9.0, 9.0), "action_noise": 0.1}
    unbroken = evolved(sign_model(), tmp_path / "unbroken", validate=CountedValidation(), **settings)

    model, validate = sign_model(), CountedValidation()
    imagine, dreams = model.memory.imagine, iter(range(10**6))

    def interrupted_dream(*args: Any, **kwargs: Any) -> Any:
        if next(dreams) == 3 * HORIZON + 2:
            raise KeyboardInterrupt
        return imagine(*args, **kwargs)

    def interrupted_validation(agent: Agent) -> ValidationScore:
        if len(validate.agents) == 3:
            raise KeyboardInterrupt
        return validate(agent)

    def interrupted_progress(record: Generation) -> None:
        if record.index == 3:
            raise KeyboardInterrupt

    if moment == "dream":
        model.memory.imagine = interrupted_dream  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        evolved(
            model,
            tmp_path / "broken",
            validate=interrupted_validation if moment == "validation" else validate,
            progress=interrupted_progress if moment == "progress" else None,
            **settings,
        )
    resumed: list[Generation] = []
    continued = evolved(
        sign_model(), tmp_path / "broken", validate=CountedValidation(), progress=resumed.append, **settings
    )
    assert [record.index for record in resumed] == [4, 5, 6]
    same_run(unbroken, continued)


@pytest.mark.integration
def test_kill_9_and_the_same_call_again(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from tests.agents.test_evolution import SMALL, evolved, sign_model
kill = lambda record: record.index == 2 and os.kill(os.getpid(), signal.SIGKILL)
evolved(sign_model(), sys.argv[1], generations=5, progress=kill, **SMALL)
"""
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "broken")], cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    unbroken, continued = (
        evolved(sign_model(), tmp_path / name, generations=5, **SMALL) for name in ("unbroken", "broken")
    )
    same_run(unbroken, continued)


def test_a_finished_run_is_not_run_again_but_goes_on_when_asked(tmp_path: Path) -> None:
    first = evolved(sign_model(), tmp_path / "a", generations=3, **SMALL)
    ran: list[Generation] = []
    same_run(first, evolved(sign_model(), tmp_path / "a", generations=3, progress=ran.append, **SMALL))
    assert not ran
    longer = evolved(sign_model(), tmp_path / "a", generations=5, progress=ran.append, **SMALL)
    assert [record.index for record in ran] == [4, 5]
    same_run(longer, evolved(sign_model(), tmp_path / "b", generations=5, **SMALL))


def test_other_settings_or_another_model_do_not_continue_a_run(tmp_path: Path) -> None:
    evolved(sign_model(), tmp_path, generations=1, **SMALL)
    with pytest.raises(ConfigurationError, match=r"population: 6 there, 8 here; sigma: 0.5 there, 0.1 here"):
        evolved(sign_model(), tmp_path, generations=1, **(SMALL | {"population": 8, "sigma": 0.1}))
    other = sign_model()
    other.starts.first.add_(1)
    with pytest.raises(ConfigurationError, match="model: "):
        evolved(other, tmp_path, generations=1, **SMALL)


def test_a_checkpoint_cut_short(tmp_path: Path) -> None:
    evolved(sign_model(), tmp_path, generations=1, **SMALL)
    file = tmp_path / "evolution.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(BundleError, match=r"evolution\.safetensors: not a whole evolution checkpoint"):
        evolved(sign_model(), tmp_path, generations=2, **SMALL)


def test_seeds_differ(tmp_path: Path) -> None:
    one, other = (
        evolved(sign_model(), tmp_path / str(seed), generations=2, **(SMALL | {"seed": seed})) for seed in (0, 1)
    )
    assert not np.array_equal(one.agent.weights, other.agent.weights)


def test_time_limit_ends_the_run_with_a_validated_agent(tmp_path: Path) -> None:
    limited: dict[str, Any] = SMALL | {"generations": 10**6, "validate_every": 10**6}
    result = evolved(sign_model(), tmp_path, time_limit=0.5, validate=CountedValidation(), **limited)
    assert result.stopped == "time_limit"
    assert result.best_validation is not None
    assert len(result.history) > 1
    again = evolved(sign_model(), tmp_path, time_limit=0.5, validate=CountedValidation(), **limited)
    assert len(again.history) == len(result.history)


def test_starts_at_given_weights(tmp_path: Path) -> None:
    weights = np.full((2, 6), 3.0)
    result = evolved(
        fake_world_model(NoisyMemory(), action_space=BOX),
        tmp_path,
        generations=1,
        begin=weights,
        **(SMALL | {"sigma": 1e-6}),
    )
    np.testing.assert_allclose(result.agent.weights, weights, atol=1e-4)
    with pytest.raises(ConfigurationError, match=r"shape \(2, 5\), this model needs \(4, 6\)"):
        evolved(sign_model(), tmp_path, generations=1, begin=np.zeros((2, 5)), **SMALL)


def test_a_dream_that_diverges_stops_with_the_last_good_checkpoint(tmp_path: Path) -> None:
    model = sign_model()
    evolved(model, tmp_path, generations=2, **SMALL)
    imagine = model.memory.imagine

    def broken(*args: Any, **kwargs: Any) -> Any:
        state, prediction = imagine(*args, **kwargs)
        return state, Prediction(prediction.reward / 0, prediction.termination_probability, prediction.terminated)

    model.memory.imagine = broken  # type: ignore[method-assign]
    with pytest.raises(NonFiniteError, match=r"generation 3: .*evolution.safetensors holds generation 2"):
        evolved(model, tmp_path, generations=4, **SMALL)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"generations": 0}, "generations must be at least 1, got 0"),
        ({"population": 0}, "population must be at least 1, got 0"),
        ({"rollouts": 0}, "rollouts must be at least 1, got 0"),
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
        ({"max_batch": 0}, "max_batch must be at least 1, got 0"),
        ({"sigma": 0.0}, "sigma must be above 0 and finite, got 0.0"),
        ({"temperature": -1.0}, "temperature must be a finite number of at least 0, got -1.0"),
        ({"validate_every": 3}, "validate_every=3 with validate=None"),
        ({"validate": CountedValidation()}, "validate_every=0 with validate=given"),
        ({"time_limit": 0.0}, "time_limit"),
        ({"optimiser": "adam"}, "optimiser='adam'"),
        ({"action_map": "throttle"}, "takes 'argmax'"),
        ({"start": "nowhere"}, "is not known. Known: first, initial, replay"),
    ],
)
def test_bad_settings(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        evolved(sign_model(), tmp_path, **({"generations": 1} | SMALL | settings))


def test_tensorboard_scalars(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    evolved(sign_model(), tmp_path, generations=2, tensorboard=True, **SMALL)
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_run_keeps_the_precision_that_it_began_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later measurement may come out otherwise; half of a run in another precision would be another run."""
    model, asked = trained_like_world_model(), []

    def score(model: Any, weights: Any, options: PopulationOptions, **rest: Any) -> Any:
        asked.append(options.precision)
        return score_population(model, weights, options, **rest)

    monkeypatch.setattr(evolution, "score_population", score)
    settings: dict[str, Any] = {"population": 8, "rollouts": 32, "horizon": 2, "seed": 4}
    for generations, seconds in ((1, 2.0), (2, 0.5)):
        monkeypatch.setenv(precision.CACHE_VARIABLE, str(tmp_path / f"cache {generations}"))
        monkeypatch.setattr(precision, "seconds_of_a_step", lambda *_, it=seconds: {"float32": it, "bfloat16": 1.0})
        evolved(model, tmp_path / "run", generations=generations, **settings)
    assert asked == ["bfloat16", "bfloat16"]
    evolved(model, tmp_path / "later", generations=1, **settings)
    assert asked[2:] == ["float32"]
