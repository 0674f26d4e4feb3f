"""`dreamenv play`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dreamenv.cli import app


@app.command()
def play(
    name: Annotated[str, typer.Argument(metavar="ID", help="A dream's id.")],
    agent: Annotated[str | None, typer.Option(help="Watch this agent (path, id, random) instead.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the dream; its own by default.")] = None,
    start: Annotated[str | None, typer.Option(help="Start states: initial or replay.")] = None,
    episodes: Annotated[int, typer.Option(min=1)] = 3,
    steps: Annotated[int | None, typer.Option(min=1, help="Most actions an episode.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=4999)] = 0,
) -> None:
    """Steer a dream in a window with the arrow keys (digits for other Discrete actions), or watch an agent in it.

    Escape or closing the window ends it.

    Example: dreamenv play DreamDoom-v0
    """
    import gymnasium as gym
    import numpy as np

    import dreamenv
    from dreamenv.agents.random_agent import RandomAgent
    from dreamenv.errors import missing_extra
    from dreamenv.registry import find

    try:
        import pygame
    except ImportError as error:
        raise missing_extra("pygame", "real") from error
    player: Any = None if agent in (None, "random") else dreamenv.load_agent(str(agent))
    chosen: dict[str, Any] = {"temperature": temperature, "start": start}
    chosen["observation"] = getattr(player, "observation", None)
    env = gym.make(find(name).id, render_mode="human", **{k: v for k, v in chosen.items() if v is not None})
    if agent == "random":
        player = RandomAgent(env.observation_space, env.action_space, generator=seed)
    names = {getattr(pygame, f"K_{key}"): key for key in ("LEFT", "RIGHT", "UP", "DOWN", *map(str, range(10)))}
    try:
        for episode in range(episodes):
            observation, _ = env.reset(seed=seed + episode)
            total, length, ended, state = 0.0, 0, False, None
            while not ended and length != steps:
                if any(
                    event.type == pygame.QUIT or (event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE)
                    for event in pygame.event.get()
                ):
                    return
                if player is None:
                    pressed = pygame.key.get_pressed()
                    action = keyboard_action(env.action_space, {key for code, key in names.items() if pressed[code]})
                else:
                    action, state = player.predict(observation, state, np.array([length == 0]), True)
                observation, reward, terminated, truncated, _ = env.step(action)
                total, length, ended = total + float(reward), length + 1, terminated or truncated
            print(f"episode {episode + 1}: {length} actions, return {total:.1f}")
    finally:
        env.close()


def keyboard_action(space: Any, keys: set[str]) -> Any:
    """The action that `keys` ("LEFT", "RIGHT", "UP", "DOWN", "0" to "9") mean in `space`.

    Discrete(3) is stay, right, left, as in DoomTakeCover; in other Discrete spaces a digit is the action's number. A
    Box of three is steer, gas, brake, as in CarRacing; in others left and right move the first dimension, up and down
    the second, and what no key moves stays as near to 0 as it can.
    """
    import numpy as np
    from gymnasium import spaces

    sideways = ("RIGHT" in keys) - ("LEFT" in keys)
    if isinstance(space, spaces.Discrete):
        if space.n == 3:
            return np.int64(space.start + (0, 1, 2)[sideways])
        digits = [int(key) for key in sorted(keys) if key.isdigit() and int(key) < space.n]
        return np.int64(space.start + (digits[0] if digits else 0))
    if len(space.low) == 3:
        push = np.array([sideways, "UP" in keys, "DOWN" in keys], np.float32)
        return np.clip(push, space.low, space.high)
    middle = np.clip(0.0, space.low, space.high).astype(space.dtype)
    for dimension, sign in enumerate((sideways, ("UP" in keys) - ("DOWN" in keys))):
        if dimension < len(middle) and sign:
            middle[dimension] = (space.high if sign > 0 else space.low)[dimension]
    return middle
