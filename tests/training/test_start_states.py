"""Start states: burned-in moments equal the steps they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from dreamenv.data.episodes import EpisodeCache
from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.training.sequences import encode_episodes
from dreamenv.training.start_states import embed_by, make_start_states
from dreamenv.vision.vae import ConvVAE
from tests.fakes import draw_weights
from tests.training.synthetic import counted, exact, squares

LENGTHS = [9, 12, 3, 7]


def small() -> tuple[MDNRNN, EpisodeCache]:
    cache = counted(LENGTHS)
    memory = MDNRNN(2, spaces.Discrete(40), hidden_size=6, mixtures=2)
    draw_weights(memory, torch.Generator().manual_seed(1))
    memory.latent_mean.copy_(torch.tensor([100.0, -5.0]))
    memory.latent_std.copy_(torch.tensor([80.0, 3.0]))
    return memory.eval(), cache


def moments(replay: dict[str, torch.Tensor]) -> list[tuple[int, int]]:
    """Episode and step of each replay state, read off its latent (100 e + t, -t)."""
    return [(round((z0 + z1) / 100), round(-z1)) for z0, z1 in replay["latent"].tolist()]


def test_burned_in_states_equal_real_steps_one_by_one() -> None:
    memory, cache = small()
    starts = make_start_states(memory, cache, exact(cache).embed, replay=30, seed=2)
    assert set(starts.replay) == {"latent", "hidden", "cell", "dropout"}
    assert len(set(moments(starts.replay))) > 10
    generator = torch.Generator()
    for row, (episode, moment) in enumerate(moments(starts.replay)):
        first, step = cache.first[episode], cache.first_step[episode]
        seen = torch.from_numpy(np.asarray(cache.observations[first : first + moment + 1]))
        with torch.no_grad():
            state = memory.initial(seen[:1], noise=generator)
            for t in range(moment):
                action = torch.from_numpy(cache.actions[step + t : step + t + 1])
                state, _ = memory.observe(state, action, seen[t + 1 : t + 2], noise=generator)
        for name, part in state._asdict().items():
            torch.testing.assert_close(starts.replay[name][row], part[0], msg=f"{name} of {(episode, moment)}")


@pytest.mark.parametrize("margin", [0, 4])
def test_moments_lie_within_training_episodes_beyond_the_margin(margin: int) -> None:
    memory, cache = small()
    starts = make_start_states(memory, cache, exact(cache).embed, replay=400, margin=margin)
    found = set(moments(starts.replay))
    # the first episode is held out; a dream from a last observation would dream what came after the end
    expected = {(e, t) for e, n in enumerate(LENGTHS) if e > 0 for t in range(margin + 1, n)}
    assert found == expected


def test_initial_starts_are_first_observations_of_training_episodes() -> None:
    memory, cache = small()
    starts = make_start_states(memory, cache, exact(cache).embed)
    assert sorted(starts.first[:, 0].tolist()) == [100, 200, 300]
    assert make_start_states(memory, cache, exact(cache).embed, initial=2).first.shape == (2, 2)


def test_behind_a_margin_dreams_begin_at_its_end() -> None:
    memory, cache = small()
    starts = make_start_states(memory, cache, exact(cache).embed, margin=4)
    assert sorted(moments(starts.settled)) == [(1, 4), (3, 4)]  # episode 2 is over before, the first is held out
    assert make_start_states(memory, cache, exact(cache).embed).settled == {}
    assert len(make_start_states(memory, cache, exact(cache).embed, initial=1, margin=4).settled["hidden"]) == 1


def test_embeddings_can_be_computed_when_they_are_asked_for() -> None:
    """As for recipes that do not encode all observations beforehand; in small batches."""
    cache, vision = squares(2, 5), ConvVAE(4, 2)
    draw_weights(vision, torch.Generator().manual_seed(2))
    rows = np.array([7, 0, 3, 11, 3])
    with torch.no_grad():
        expected = vision.encode(torch.from_numpy(np.array(cache.observations[rows])))
    torch.testing.assert_close(embed_by(vision, cache, device="cpu", batch_size=2)(rows), expected)
    memory = MDNRNN(4, spaces.Discrete(2), hidden_size=6, mixtures=2).eval()
    lazy = make_start_states(memory, cache, embed_by(vision, cache, device="cpu"), replay=5)
    at_once = make_start_states(memory, cache, encode_episodes(vision, cache).embed, replay=5)
    torch.testing.assert_close(lazy.first, at_once.first)
    torch.testing.assert_close(lazy.replay, at_once.replay)


def test_there_may_be_no_replay_starts() -> None:
    memory, cache = small()
    assert make_start_states(memory, cache, exact(cache).embed, margin=50).replay == {}
    assert make_start_states(memory, cache, exact(cache).embed, replay=0).replay == {}


def test_the_seed_chooses() -> None:
    memory, cache = small()
    one, two, other = (moments(make_start_states(memory, cache, exact(cache).embed, seed=s).replay) for s in (1, 1, 2))
    assert one == two
    assert one != other
