"""The figures of the present moment as a message."""

from __future__ import annotations

from typing import Any

from dreamenv.play.fan import Fan
from dreamenv.play.game import Game
from dreamenv.play.worlds import Standing


def status_message(game: Game, *, view: str, fan: Fan | None, expected: tuple[float, float] | None) -> dict[str, Any]:
    """The message `status`.

    Args:
        game: The player's game.
        view: What the player looks at: "drive", "fan" or "latents".
        fan: The futures, if they are looked at.
        expected: Reward and probability of an end to show instead of those of the last step.
    """
    moment = game.moment
    reward, end = expected or (moment.predicted_reward, moment.termination_probability)
    return {
        "type": "status",
        "view": view,
        "world": game.world,
        "wheel": game.wheel,
        "paused": game.paused,
        "temperature": game.temperature,
        "rate": game.rate,
        "steps_per_second": round(_steps_per_second(game, view, fan), 2),
        "step": moment.step,
        "return": round(moment.undiscounted_return, 3),
        "reward": round(moment.reward, 4),
        "predicted_reward": round(reward, 4),
        "termination_probability": round(end, 5),
        "ended": moment.ended,
        "race": None if moment.race is None else _standing(moment.race),
        "fan": None if fan is None else _futures(fan),
    }


def _steps_per_second(game: Game, view: str, fan: Fan | None) -> float:
    if view == "latents" or game.paused:
        return 0.0
    return game.steps_per_second if fan is None else fan.step_rate.value


def _futures(fan: Fan) -> dict[str, Any]:
    return {
        "step": fan.step,
        "returns": [round(float(value), 2) for value in fan.returns],
        "alive": fan.alive.tolist(),
    }


def _standing(race: Standing) -> dict[str, Any]:
    return {
        "return": round(race.real_return, 3),
        "dream_ended": race.dream_ended,
        "real_ended": race.real_ended,
        "drift": round(race.drift, 4),
    }
