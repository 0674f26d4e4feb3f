"""Whatever works on a memory takes an RSSM of pictures too: nothing above the interface knows which memory it has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

import dreamenv
from dreamenv import registry
from dreamenv.agents.imagination import train_actor_critic
from dreamenv.agents.options import ImaginationOptions
from dreamenv.agents.saved import save_agent
from dreamenv.bundle import StartStates
from dreamenv.figures.clips import record_dream, record_real
from dreamenv.memory.rssm.model import RSSM
from dreamenv.play.controls import Hands
from dreamenv.play.game import Game
from dreamenv.scoring import evaluate
from dreamenv.types import Control, RealEnvSpec
from dreamenv.vision.joint import ConvAutoencoder
from dreamenv.workflows.publish import publish_bundle
from dreamenv.world_model import WorldModel
from tests.colour_env import ColourEnv
from tests.fakes import draw_weights, write_registry
from tests.play.openings import open_model

DREAM, TWIN = "DreamColour-v0", "LatentColour-v0"
CHOICE = spaces.Discrete(3)


def rssm_of_pictures(latents: str) -> WorldModel:
    """Fixed random weights, large enough that dreams differ."""
    sizes: dict[str, Any] = {"latents": latents, "groups": 3, "classes": 4, "gaussian_size": 5, "width": 8}
    depth, hidden = 2, 8
    memory = RSSM(128 * depth, CHOICE, hidden, **sizes)
    vision = ConvAutoencoder(memory.latent_size, depth)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for module in (memory, vision):
            draw_weights(module, generator)
        first = torch.randn(6, vision.embedding_size, generator=generator)
        state = memory.initial(first, noise=generator)
    controls = {"LEFT": Control("left", 2), "RIGHT": Control("right", 1)}
    real = RealEnvSpec("Colour-v0", drop_terminal_observation=True, max_episode_steps=12, controls=controls)
    starts = StartStates(first, state._asdict())
    return WorldModel(
        vision, memory, real, CHOICE, starts, max_episode_steps=9, temperature=1.1, provenance={"real_frames": 0}
    )


@pytest.fixture(scope="module", params=["categorical", "gaussian"])
def known(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A registry with the model, which is registered while the tests run."""
    gym.register("Colour-v0", entry_point=ColourEnv)

    def of_colour(entry: dict[str, Any]) -> None:
        entry["real"] = {"id": "Colour-v0", "drop_terminal_observation": True, "max_episode_steps": 12}

    folder = tmp_path_factory.mktemp(str(request.param))
    path = write_registry(folder, DREAM, rssm_of_pictures(request.param), change=of_colour)
    dreamenv.register(path)
    yield path
    del registry.entries()[DREAM]
    for name in (DREAM, TWIN, "Colour-v0"):
        del gym.registry[name]


@pytest.mark.parametrize("observation", ["features", "latent", "pixels", "state"])
def test_dream_and_twin_have_the_same_spaces(known: Path, observation: str) -> None:
    dream, twin = (gym.make(name, observation=observation) for name in (DREAM, TWIN))
    assert dream.observation_space == twin.observation_space
    for env in (dream, twin):
        seen, _ = env.reset(seed=1)
        again, _ = env.reset(seed=1)
        np.testing.assert_array_equal(seen, again)
        following, _, _, _, info = env.step(1)
        assert env.observation_space.contains(following)
        assert "predicted_reward" in info or "termination_probability" in info
        env.close()


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_dreams_in_a_batch_begin_anew_and_are_restored(known: Path, mode: AutoresetMode) -> None:
    envs = gym.make_vec(DREAM, num_envs=3, autoreset_mode=mode, max_episode_steps=4)
    envs.reset(seed=5)
    ended = np.zeros(3, bool)
    for _ in range(9):
        if mode is AutoresetMode.DISABLED and ended.any():
            envs.reset(options={"reset_mask": ended})
        kept = envs.unwrapped.get_state()  # type: ignore[attr-defined]
        actions = envs.action_space.sample()
        first = envs.step(actions)
        envs.unwrapped.set_state(kept)  # type: ignore[attr-defined]
        for ours, other in zip(first[:4], envs.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(ours, other)
        ended = first[2] | first[3]
    assert np.isfinite(first[0]).all()
    envs.close()


def test_agents_learn_in_it_and_are_scored_in_reality(known: Path, tmp_path: Path) -> None:
    model = WorldModel.load(DREAM)
    options = ImaginationOptions(steps=2, batch_size=4, horizon=3, width=8)
    for gradient in ("dynamics", "reinforce"):
        learned = train_actor_critic(
            model, out_dir=tmp_path / gradient, options=ImaginationOptions(**vars(options) | {"gradient": gradient})
        )
        assert evaluate(DREAM, learned.agent, episodes=1, workers=0).mean == 12.0  # six steps at 2
    planner = "planner:mcts,simulations=4,horizon=3"
    assert evaluate(DREAM, planner, episodes=1, workers=0).mean == 12.0
    ppo = pytest.importorskip("stable_baselines3").PPO
    from dreamenv.sb3 import DreamVecEnv

    envs = DreamVecEnv(DREAM, num_envs=2)
    trained = ppo("MlpPolicy", envs, n_steps=4, batch_size=8, n_epochs=1, policy_kwargs={"net_arch": [4]}).learn(8)
    assert evaluate(DREAM, trained, episodes=1, workers=0).mean == 12.0


def test_it_is_filmed_driven_and_published(known: Path, tmp_path: Path) -> None:
    model = WorldModel.load(DREAM)
    dreamed, real = record_dream(model, "random", steps=3), record_real(model, "random", steps=3)
    assert len(real.frames) == 4
    assert 2 <= len(dreamed.frames) <= 4, "a dream of random weights may end"
    game = Game(open_model(model))
    game.driver.hands = Hands(sideways=1.0)
    before = game.present_latent
    game.step()
    assert not np.array_equal(game.present_latent, before)
    assert game.pictures(game.present_latent[None]).shape == (1, 64, 64, 3)
    game.close()
    run = tmp_path / "run"
    model.save(run / "bundle")
    options = ImaginationOptions(steps=1, batch_size=4, horizon=2, width=8)
    save_agent(train_actor_critic(model, out_dir=tmp_path / "agent", options=options).agent, run / "agent")
    own = write_registry(tmp_path / "own", DREAM, model)
    score = json.loads(json.dumps(evaluate(DREAM, "random", episodes=2, workers=0).to_json()))
    folder = publish_bundle(DREAM, run, own, score=score, baseline=score)
    assert "rssm" in (folder / "README.md").read_text(encoding="utf-8")
    assert WorldModel.load(folder).fingerprint() == model.fingerprint()
