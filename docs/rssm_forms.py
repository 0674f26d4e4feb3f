"""An RSSM fitted with its convolutions in one loss, and one over a frozen V: the same episodes, the same time.

python docs/rssm_forms.py DreamCarRacing-v1 runs/car_v1/episodes --seconds 3600 --json forms.json

Every tenth episode is held out. Each form has `--seconds` of one core, however busy the machine is, and the frozen form
spends some of them on its V. With --json the figures of a form are kept beside that file as soon as there are any, and
the same command goes on with the other form.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dreamenv import registry
from dreamenv.data.collect import check_collected
from dreamenv.data.episodes import EpisodeStore
from dreamenv.data.preprocess import make_real_env
from dreamenv.errors import ConfigurationError
from dreamenv.files import parse_json, write_json
from dreamenv.options import options_from
from dreamenv.scoring.open_loop import open_loop_errors
from dreamenv.scoring.teacher_forcing import force_episodes
from dreamenv.training.growing import GrowingCache
from dreamenv.training.recipes.base import Job
from dreamenv.training.recipes.joint import RSSMOptions
from dreamenv.training.recipes.kinds import RECIPES
from dreamenv.types import Episode, RealEnvSpec

FORMS = {"joint": False, "frozen": True}
HORIZONS = (1, 5, 15, 50)
# One episode in so many is held out, and at most so many of them are measured
_SHARE, _MEASURED = 10, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dream", help="the id of a dream whose recipe is rssm")
    parser.add_argument("episodes", type=Path, help="folder of real episodes, such as those of a loop")
    parser.add_argument("--seconds", type=float, default=3600.0, help="for each form")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    given = parser.parse_args()
    section = registry.find(given.dream).section
    real = section.real.spec()
    check_collected(given.episodes, real)
    episodes = list(EpisodeStore(given.episodes))
    options = options_from(RSSMOptions, section.train.options, where=given.dream)
    torch.set_num_threads(1)
    found: dict[str, dict[str, float]] = {}
    asked = {"dream": given.dream, "episodes": len(episodes), "seconds": given.seconds, "seed": given.seed}
    for name, frozen in FORMS.items():
        kept = given.json and given.json.with_suffix(f".{name}.json")
        if kept and kept.exists() and (before := parse_json(kept.read_text(encoding="utf-8")))["asked"] == asked:
            found[name] = before["found"]
            continue
        form = replace(options, network=replace(options.network, frozen=frozen))
        found[name] = fitted(form, real, episodes, given.seconds, given.seed)
        if kept:
            write_json(kept, {"asked": asked, "found": found[name]})
        print(f"{name}: " + ", ".join(f"{key} {value:.5g}" for key, value in found[name].items()), flush=True)
    if given.json:
        write_json(given.json, found)


def fitted(
    options: RSSMOptions, real: RealEnvSpec, episodes: list[Episode], seconds: float, seed: int
) -> dict[str, float]:
    """Fit for so long to nine tenths of the episodes; figures of the others."""
    seen, held_out = GrowingCache(), GrowingCache()
    for number, episode in enumerate(episodes):
        (seen if number % _SHARE else held_out).append(episode)
    env = make_real_env(real)
    env.close()
    with tempfile.TemporaryDirectory(prefix="dreamenv-") as folder:
        begin = time.process_time()
        job: Job[Any] = Job(options, seen.cache(), real, env.action_space, Path(folder), seed=seed)
        learner = RECIPES["rssm"]().continual(job)
        updates = 0
        while time.process_time() - begin < seconds:
            learner.update(updates)
            updates += 1
        if updates == 0:
            raise ConfigurationError(f"fitting V alone took {time.process_time() - begin:.0f} s; give more --seconds")
        learner.finish()
    found: dict[str, float] = {"updates": updates, "moments": int(seen.cache().lengths.sum())}
    found |= {name: value for name, value in learner.measure(held_out.cache()).items() if name == "reward_r2"}
    model = job.world_model(learner.vision, learner.memory)
    long = [episode for episode in episodes[::_SHARE] if len(episode) > HORIZONS[-1] + model.real.margin_actions]
    chosen = [long[index] for index in np.linspace(0, len(long) - 1, min(_MEASURED, len(long))).astype(int)]
    forced = force_episodes(model, chosen, moments=8, horizons=HORIZONS, seed=seed)
    for row in open_loop_errors(model, forced, horizons=HORIZONS, samples=8, seed=seed):
        assert row.pixel_mse is not None
        assert row.pixel_mse_reconstruction is not None
        found |= {f"pixel_mse_{row.horizon}": row.pixel_mse, f"V_{row.horizon}": row.pixel_mse_reconstruction}
    return found


if __name__ == "__main__":
    main()
