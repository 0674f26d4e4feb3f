"""Where a driver of CarRacing loses points: actions on validation tracks that pay nothing, on the road and off it.

python docs/where_points_go.py DreamCarRacing-v0 --episodes 40 --json points.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dreamenv.agents.resolve import resolve_agent
from dreamenv.envs.loading import open_world_model
from dreamenv.files import write_json
from dreamenv.scoring.play import RealEpisodes
from dreamenv.types import episode_seeds

# So many actions in a row without a new tile are a stretch that pays nothing; at any speed above walking one has less
STRETCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a registered id, or a bundle's folder")
    parser.add_argument("--agent", help="its path or id; the one in the bundle by default")
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    given = parser.parse_args()
    found = where_points_go(given.model, given.agent, given.episodes, given.seed)
    for name, value in found.items():
        print(f"{name}: {value:.1f}")
    if given.json:
        write_json(given.json, found)


def where_points_go(model: str, agent: str | None, episodes: int, seed: int) -> dict[str, float]:
    """Means over episodes; actions are those of an episode, speeds are Box2D units."""
    world_model = open_world_model(model)
    player = resolve_agent(agent, world_model, source=model)
    played = RealEpisodes(world_model, player)
    rows = [_of_episode(played, one) for one in episode_seeds("validation", seed, episodes)]
    played.close()
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} | {"episodes": float(episodes)}


def _of_episode(played: RealEpisodes, seed: int) -> dict[str, float]:
    rewards, on_road, speeds = [], [], []
    for moment in played.play(seed):
        car = played.env.unwrapped.car  # type: ignore[attr-defined]
        rewards.append(float(moment.reward))
        on_road.append(any(wheel.tiles for wheel in car.wheels))
        speeds.append(float(np.hypot(*car.hull.linearVelocity)))
    pays = np.array(rewards[1:]) > 0
    road, speed = np.array(on_road[1:]), np.array(speeds[1:])
    lost = _in_stretches(~pays)
    return {
        "return": float(np.sum(rewards)),
        "actions": float(len(pays)),
        "without_reward_off_road": float((lost & ~road).sum()),
        "without_reward_on_road": float((lost & road).sum()),
        "episodes_with_a_stretch": float(lost.any()),
        "reward_of_other_actions": float(np.array(rewards[1:])[~lost].mean()),
        "speed_of_other_actions": float(speed[~lost].mean()),
    }


def _in_stretches(missing: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Those of `missing` `[T]` that lie in a row of at least `STRETCH`, behind the first one that is not."""
    kept, begin = np.zeros_like(missing), None
    first = len(missing) if missing.all() else int(np.argmin(missing))
    for step, value in enumerate([*missing, False]):
        if value and begin is None and step > first:
            begin = step
        elif not value and begin is not None:
            kept[begin:step] = step - begin >= STRETCH
            begin = None
    return kept


if __name__ == "__main__":
    main()
