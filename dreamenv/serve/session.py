"""One player of the page: messages in, pictures and figures out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamenv.envs.render import tile
from dreamenv.errors import CollectionError, ConfigurationError, DreamEnvError
from dreamenv.play.controls import Hands
from dreamenv.play.driver import AGENT
from dreamenv.play.fan import Fan
from dreamenv.play.game import DREAM, REAL, Game
from dreamenv.play.opening import Opening
from dreamenv.play.worlds import RealWorld
from dreamenv.serve import messages
from dreamenv.serve.clip import Clip
from dreamenv.serve.greeting import FRAMES_PER_SECOND, greeting
from dreamenv.serve.limits import Places
from dreamenv.serve.messages import Message, error_reply
from dreamenv.serve.pictures import Kind, numbers_message, picture_message
from dreamenv.serve.place import place_of, state_at
from dreamenv.serve.status import status_message

Outgoing = bytes | dict[str, Any]
_STATUS_SECONDS = 0.5
# Of the agent, so that the next real frame shows something else
_ACTIONS_BETWEEN_FRAMES = 10


class Session:
    """A game and what its player looks at. `turn` and `close` may be called from any thread.

    Args:
        opening: The dream.
        seed: Fixes the player's dreams.
        real_places: Shared by all players: how many real games may run.
    """

    def __init__(self, opening: Opening, *, seed: int, real_places: Places) -> None:
        self._opening = opening
        self._real_places = real_places
        self._seed = seed
        # The game must not know its session: a circle of the two would keep both until a garbage collection
        self._game = Game(opening, seed=seed, wheel=AGENT, make_real=partial(_make_real, real_places))
        self._clip = Clip()
        self._lock = threading.Lock()
        self._closed = False
        self._view = "drive"
        self._shows_mixture = False
        self._fan: Fan | None = None
        self._fan_due = 0.0
        self._edited: NDArray[np.float32] | None = None
        self._replies: list[Outgoing] = []
        self._changed = True
        self._since_status = 0.0

    @property
    def at_rest(self) -> bool:
        """Whether nothing will change until a message comes."""
        return not self._changed and (self._view == "latents" or self._game.paused)

    def hello(self) -> dict[str, Any]:
        """What the page needs to know to draw itself."""
        return greeting(self._game, real_allowed=self._real_places.count > 0)

    def turn(self, arrived: Iterable[Message], seconds: float) -> list[Outgoing]:
        """Act upon messages and let `seconds` pass; returns what there is to send, nothing after `close`."""
        with self._lock:
            if self._closed:
                return []
            replies = [reply for message in arrived for reply in self._obey(message)]
            return replies + self._advance(seconds)

    def close(self) -> None:
        """End the player's real game, if there is one."""
        with self._lock:
            self._closed = True
            self._game.close()

    def _obey(self, message: Message) -> list[Outgoing]:
        try:
            _OBEYED_BY[type(message)](self, message)
        except DreamEnvError as error:
            return [self._error(error)]
        self._changed |= type(message) not in _UNSEEN
        replies, self._replies = self._replies, []
        return replies

    def _advance(self, seconds: float) -> list[Outgoing]:
        outgoing: list[Outgoing] = []
        self._clip.pass_time(seconds)
        stepped_from = self._game.moment
        try:
            if self._view == "drive":
                self._changed |= self._game.advance(seconds, 1.0 / FRAMES_PER_SECOND)
            elif self._view == "fan":
                self._advance_fan(seconds)
        except DreamEnvError as error:
            outgoing.append(self._error(error))
            self._look_at("drive")
            self._changed = True
        stepped = self._game.moment is not stepped_from or self._view == "fan"
        self._since_status += seconds
        if self._changed or self._since_status >= _STATUS_SECONDS:
            self._since_status = 0.0
            outgoing.append(self._status())
        if self._changed:
            outgoing.extend(self._pictures(stepped))
        self._changed = False
        return outgoing

    def _status(self) -> dict[str, Any]:
        expected = self._expected(self._edited) if self._view == "latents" else None
        return status_message(self._game, view=self._view, fan=self._fan, expected=expected)

    def _expected(self, latent: NDArray[np.float32] | None) -> tuple[float, float]:
        """Reward and probability of an end that M expects of the next step, of `latent` instead of the present one."""
        said = self._game.foresee(self._game.state if latent is None else self._game.edited(latent))
        return float(said.reward[0]), float(said.termination_probability[0])

    def _press(self, message: messages.Keys) -> None:
        self._game.hands = Hands.of_keys(message.keys)
        if self._fan is not None:
            self._fan.driver.hand_over(self._game.wheel)
            self._fan.driver.hands = self._game.hands

    def _look_on(self, _: messages.Here) -> None:
        """That the message came is all there is to it."""

    def _hand_over(self, message: messages.Wheel) -> None:
        self._game.wheel = message.wheel
        if self._fan is not None:
            self._fan.driver.hand_over(message.wheel)

    def _enter(self, message: messages.EnterWorld) -> None:
        self._look_at("drive")
        self._game.enter(message.world)

    def _catch_up(self, _: messages.CatchUp) -> None:
        self._look_at("drive")
        self._game.catch_up()

    def _set_temperature(self, message: messages.Temperature) -> None:
        self._game.temperature = message.value
        if self._fan is not None:
            self._fan.temperature = message.value

    def _set_rate(self, message: messages.Rate) -> None:
        self._game.rate = message.value

    def _pause(self, message: messages.Pause) -> None:
        self._game.paused = message.paused

    def _step(self, _: messages.Step) -> None:
        self._look_at("drive")
        self._game.paused = True
        self._game.step()

    def _reset(self, _: messages.Reset) -> None:
        self._look_at("drive")
        self._game.reset()

    def _change_view(self, message: messages.View) -> None:
        self._look_at(message.view)

    def _show_mixture(self, message: messages.ShowMixture) -> None:
        self._shows_mixture = message.shown

    def _edit(self, message: messages.Latent) -> None:
        if self._view != "latents":
            raise ConfigurationError("latent: open the view of the latents first")
        latent = np.array(message.values, np.float32)
        self._game.edited(latent)
        self._edited = latent

    def _show_real_frame(self, _: messages.RealFrame) -> None:
        actions = _ACTIONS_BETWEEN_FRAMES
        if self._game.world == DREAM:
            self._game.enter(REAL)
            actions = self._opening.model.real.first_moment
        self._game.wheel = AGENT
        for _action in range(actions):
            self._game.step()
        self._look_at("latents")

    def _begin(self, message: messages.Begin) -> None:
        state = None if message.moment is None else state_at(self._opening.model, message.moment)
        self._look_at("drive")
        self._seed = message.seed
        self._game.begin_anew(message.seed, state)

    def _share(self, _: messages.Share) -> None:
        self._replies.append({"type": "place", "seed": self._seed, "moment": place_of(self._game.state)})

    def _save_clip(self, _: messages.Clip) -> None:
        self._replies.append(bytes([Kind.CLIP]) + self._clip.to_gif())

    def _take(self, message: messages.Take) -> None:
        if self._fan is None:
            raise ConfigurationError("take: there is no fan of futures to take one from; open it first")
        state = self._fan.state(message.future)
        self._look_at("drive")
        self._game.dream_on(state)

    def _dream_on(self, _: messages.DreamOn) -> None:
        if self._view != "latents":
            raise ConfigurationError("dream_on: open the view of the latents first")
        state = self._game.state if self._edited is None else self._game.edited(self._edited)
        self._look_at("drive")
        self._game.dream_on(state)

    def _look_at(self, view: str) -> None:
        if view == "latents" and not self._game.edits_latents:
            raise ConfigurationError("view: the latents of this dream cannot be changed by themselves")
        self._view = view
        self._edited = None
        self._fan = self._game.fan() if view == "fan" else None
        self._fan_due = 0.0

    def _advance_fan(self, seconds: float) -> None:
        assert self._fan is not None
        self._fan_due += seconds * self._opening.steps_per_second
        if self._fan_due < 1.0 or self._game.paused:
            return
        self._fan_due = min(self._fan_due - 1.0, 1.0)
        self._fan.advance()
        self._changed = True

    def _pictures(self, stepped: bool) -> list[Outgoing]:
        game = self._game
        found: list[Outgoing] = []
        if self._view == "fan" and self._fan is not None:
            found.append(picture_message(Kind.FAN, tile(game.pictures(self._fan.latents)), lossless=False))
        elif self._view == "latents":
            latent = game.present_latent if self._edited is None else self._edited
            if self._edited is None:
                found.append({"type": "latent", "values": [round(float(number), 4) for number in latent]})
                if game.moment.frame is not None:
                    found.append(picture_message(Kind.REAL, game.moment.frame))
            found.append(picture_message(Kind.LATENT, game.pictures(latent[None])[0]))
        else:
            dreamed, frame = game.pictures(game.latent[None])[0], game.moment.frame
            self._clip.add(dreamed, frame, f"return {game.moment.undiscounted_return:.0f}")
            found.append(picture_message(Kind.DREAM, dreamed))
            if frame is not None:
                found.append(picture_message(Kind.REAL, frame))
        if self._shows_mixture and self._view == "drive" and (stepped or game.paused):
            mixture = game.mixture()
            if mixture is not None:
                found.append(numbers_message(Kind.MIXTURE, mixture.to_array()))
        return found

    def _error(self, error: DreamEnvError) -> dict[str, Any]:
        return error_reply(type(error).__name__, str(error))


def _make_real(places: Places, opening: Opening, generator: np.random.Generator) -> RealWorld:
    if not places.take():
        taken = "the real game is taken by another player" if places.count == 1 else "all real games are taken"
        raise CollectionError(f"{taken}; dream on, and try again when one is free")
    try:
        return RealWorld(opening, generator, on_close=places.give_back)
    except BaseException:
        places.give_back()
        raise


_OBEYED_BY: dict[type[Message], Callable[[Session, Any], None]] = {
    messages.Keys: Session._press,
    messages.Wheel: Session._hand_over,
    messages.Here: Session._look_on,
    messages.EnterWorld: Session._enter,
    messages.CatchUp: Session._catch_up,
    messages.Temperature: Session._set_temperature,
    messages.Rate: Session._set_rate,
    messages.Pause: Session._pause,
    messages.Step: Session._step,
    messages.Reset: Session._reset,
    messages.View: Session._change_view,
    messages.ShowMixture: Session._show_mixture,
    messages.Latent: Session._edit,
    messages.RealFrame: Session._show_real_frame,
    messages.Begin: Session._begin,
    messages.Share: Session._share,
    messages.Clip: Session._save_clip,
    messages.Take: Session._take,
    messages.DreamOn: Session._dream_on,
}
# Nothing changes in the pictures before the next step, if at all
_UNSEEN = {messages.Here, messages.Share, messages.Clip}
