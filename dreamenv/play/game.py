"""One player at the wheel: which world, who drives, how fast, and the present moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamenv.errors import ConfigurationError, did_you_mean
from dreamenv.memory.base import Prediction
from dreamenv.play.controls import Hands
from dreamenv.play.driver import AGENT, HUMAN, Driver
from dreamenv.play.fan import Fan
from dreamenv.play.mixture import Mixture, mixture_of
from dreamenv.play.opening import Opening
from dreamenv.play.race import RaceWorld
from dreamenv.play.step_rate import StepRate
from dreamenv.play.worlds import DreamWorld, Moment, RealWorld, World

DREAM, REAL, RACE = "dream", "real", "race"
WORLDS, WHEELS = (DREAM, REAL, RACE), (HUMAN, AGENT)
TEMPERATURES = (0.05, 3.0)
RATES = (1.0, 60.0)
SECONDS_AFTER_THE_END = 2.0
SECONDS_OF_FUTURE = 4.0
# A step that is due within this share of a step's time is taken now; a late tick would otherwise cost a whole one.
_EARLY = 0.05


class Game:
    """A game of one player, which `advance` moves on in time.

    Between two steps of the dream the picture moves from one latent to the next, so that a slow dream looks smooth:
    `latent` lags behind the present moment by up to a step.

    Args:
        opening: The dream.
        seed: Fixes start states, noise and the random agent.
        wheel: Who drives first, "human" or "agent"; a driving key that is pressed hands over to the human.
        make_real: Makes the real world when it is entered.
        step_rate: Counts the steps.

    Attributes:
        driver: Who acts.
        moment: The present moment.
        world: "dream", "real", or "race": both side by side.
        paused: Whether time stands still.
        rate: Steps a second that are aimed at.
    """

    moment: Moment
    _before: NDArray[np.float32]
    _taken: tuple[Any, Any] | None
    _phase: float
    _ahead: float
    _since_end: float

    def __init__(
        self,
        opening: Opening,
        *,
        seed: int = 0,
        wheel: str = HUMAN,
        make_real: Callable[[Opening, np.random.Generator], RealWorld] = RealWorld,
        step_rate: StepRate | None = None,
    ) -> None:
        self.opening = opening
        self._generator = np.random.default_rng(seed)
        self._make_real = make_real
        self._step_rate = StepRate() if step_rate is None else step_rate
        self.driver = Driver(opening.model, opening.make_agent(seed), wheel=_one_of("wheel", wheel, WHEELS))
        self._dream = DreamWorld(opening, self._generator, opening.temperature)
        self._tapped: Hands | None = None
        self._real: RealWorld | None = None
        self._race: RaceWorld | None = None
        self.world = DREAM
        self.paused = False
        self.rate = float(np.clip(opening.steps_per_second, *RATES))
        self._arrive(self._dream.reset())

    @property
    def temperature(self) -> float:
        """Of the dream and of its futures."""
        return self._dream.temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        self._dream.temperature = float(np.clip(value, *TEMPERATURES))

    @property
    def wheel(self) -> str:
        """Who drives, "human" or "agent"."""
        return self.driver.wheel

    @wheel.setter
    def wheel(self, value: str) -> None:
        self.driver.hand_over(_one_of("wheel", value, WHEELS))

    @property
    def hands(self) -> Hands:
        """What the human does. A driving key that was not pressed before takes the wheel from the agent; one that is
        let go before the next step acts in that step all the same."""
        return self.driver.hands

    @hands.setter
    def hands(self, hands: Hands) -> None:
        pressed = hands.shares().keys() - self.driver.hands.shares().keys()
        self.driver.hands = hands
        if pressed & self.driver.keys.labels.keys():
            self.wheel = HUMAN
            self._tapped = hands

    @property
    def steps_per_second(self) -> float:
        """Steps taken a second, over the last two seconds; 0 while time stands still."""
        return 0.0 if self.paused else self._step_rate.value

    @property
    def state(self) -> Any:
        """M's state at the present moment, of batch 1."""
        return self._here.state

    @property
    def latent(self) -> NDArray[np.float32]:
        """`[Z]`, what to show: on the way from the last moment's latent to the present one's."""
        if self.paused or self.moment.ended or self.world != DREAM:
            return self.moment.latent
        share = min(max(self._phase + self._ahead, 0.0), 1.0)
        return self._before + np.float32(share) * (self.moment.latent - self._before)

    @property
    @torch.no_grad()
    def present_latent(self) -> NDArray[np.float32]:
        """`[Z]`, the latent of `state`: in a race that of the real moment."""
        return self.opening.model.memory.latent(self.state)[0].float().cpu().numpy()

    def pictures(self, latents: NDArray[np.float32]) -> NDArray[np.uint8]:
        """What V decodes of latents `[B, Z]`: `[B, 64, 64, 3]` uint8. Of a model with pictures only."""
        with torch.no_grad():
            tensor = torch.from_numpy(latents).to(self.opening.model.device)
            return self.opening.model.vision.decode_uint8(tensor).cpu().numpy()

    def reset(self) -> None:
        """Begin an episode in the world one is in.

        Raises:
            CollectionError: The real game died; the player is back in the dream.
        """
        try:
            self._arrive(self._here.reset())
        except Exception:
            if self.world == DREAM:
                raise
            self._wake_in_dream()
            raise

    def step(self) -> None:
        """One action, whether time stands still or not; after an end, the next episode begins instead.

        Raises:
            NonFiniteError: The dream became NaN or infinite; an episode has begun anew.
            CollectionError: The real game died; the player is back in the dream.
        """
        if self.moment.ended:
            self.reset()
            return
        self._before = self.moment.latent
        seen = self._here.seen
        held, tapped = self.driver.hands, self._tapped
        self.driver.hands = tapped if tapped is not None and not held.shares() else held
        actions = self.driver.actions(seen)
        self.driver.hands, self._tapped = held, None
        try:
            self.moment = self._here.step(actions)
        except Exception:
            if self.world == DREAM:
                self.reset()
            else:
                self._wake_in_dream()
            raise
        self._taken = type(seen)(*(part[:1] for part in seen)), actions[0]
        self._step_rate.count()

    def advance(self, seconds: float, ahead: float = 0.0) -> bool:
        """Let `seconds` pass; returns whether there is something new to see.

        `ahead` is how long the picture that is asked for next will stand, in seconds: at as many steps as pictures a
        second it then shows the present moment itself. Errors as `step`.
        """
        if self.paused:
            return False
        if self.moment.ended:
            self._since_end += seconds
            if self._since_end < SECONDS_AFTER_THE_END:
                return False
            self.reset()
            return True
        self._ahead = ahead * self.rate
        self._phase += seconds * self.rate
        if self._phase < 1.0 - _EARLY:
            return self.world == DREAM
        # A machine that is too slow for the rate takes fewer steps, not several at once
        self._phase = min(self._phase - 1.0, 1.0 - _EARLY)
        self.step()
        return True

    def enter(self, world: str) -> None:
        """Go to another world: into a real episode, into a race from the real moment on, or into a dream of it.

        From the dream, the real environment and the race begin with a new real episode.

        Raises:
            ConfigurationError: No such world.
            MissingExtraError, CollectionError: The real environment cannot be made; the player stays in the dream.
        """
        if _one_of("world", world, WORLDS) == self.world:
            return
        if world == DREAM:
            self.dream_on(self.state)
            return
        real = self._real or self._make_real(self.opening, self._generator)
        race = RaceWorld(self.opening, self._dream, real, self.driver.keys.action(Hands())) if world == RACE else None
        try:
            if self._real is None:
                moment = real.reset() if race is None else race.reset()
            else:
                moment = real.moment if race is None else race.begin()
        except BaseException:
            real.close()
            if self._real is not None:
                self._wake_in_dream()
            raise
        self._real, self._race, self.world = real, race, world
        self._arrive(moment)

    def catch_up(self) -> None:
        """Let the dream of a race begin again at the present real moment.

        Raises:
            ConfigurationError: There is no race.
        """
        if self._race is None:
            raise ConfigurationError("catch_up: there is no race; enter it first")
        self._arrive(self._race.begin())

    def begin_anew(self, seed: int, state: Any = None) -> None:
        """Dream as a new player with this seed would, from a start state or from a memory state of batch 1."""
        # The worlds share the generator
        self._generator.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        if state is not None:
            self.dream_on(state)
        else:
            self._wake_in_dream()

    def dream_on(self, state: Any) -> None:
        """Begin an episode of the dream at a memory state of batch 1, leaving the real world if one is there."""
        moment = self._dream.dream_on(state)
        self._leave_real()
        self._arrive(moment)

    def edited(self, latent: NDArray[np.float32]) -> Any:
        """The present memory state with another latent `[Z]`.

        Raises:
            ConfigurationError: A latent of another length, or a memory whose latents cannot be changed.
        """
        if latent.shape != self.moment.latent.shape:
            raise ConfigurationError(f"got {len(latent)} latent numbers, expected {len(self.moment.latent)}")
        memory = self.opening.model.memory
        edited = memory.with_latent(self.state, torch.from_numpy(latent[None]).to(memory.device))
        if edited is None:
            raise ConfigurationError(f"the latents of {type(memory).__name__} cannot be changed by themselves")
        return edited

    @torch.no_grad()
    def foresee(self, state: Any) -> Prediction:
        """What M expects of one step from a memory state of batch 1, with whoever drives; nothing happens."""
        driver, memory = self.driver.beside(), self.opening.model.memory
        action = torch.from_numpy(np.asarray(driver.actions(state))).to(memory.device)
        noise = torch.Generator(memory.device).manual_seed(0)
        return memory.imagine(state, action, noise=noise, temperature=0.0)[1]

    @property
    def edits_latents(self) -> bool:
        """Whether `edited` works with this memory."""
        memory, state = self.opening.model.memory, self.state
        return memory.with_latent(state, memory.latent(state)) is not None

    def fan(self) -> Fan:
        """Nine futures of the present moment, with whoever is at the wheel in all of them."""
        return Fan(
            self.opening,
            self.state,
            self.driver.beside(),
            self._generator,
            temperature=self.temperature,
            horizon=round(SECONDS_OF_FUTURE * self.opening.steps_per_second),
        )

    @property
    def has_mixture(self) -> bool:
        """Whether M predicts latents by mixtures that `mixture` can show."""
        idle = self.driver.keys.action(Hands())
        return mixture_of(self.opening.model, self.state, idle, self.moment.latent, temperature=1.0) is not None

    def mixture(self) -> Mixture | None:
        """The mixture from which the present latent was drawn; None at an episode's first moment, and where M has no
        mixtures."""
        if self._taken is None:
            return None
        return mixture_of(self.opening.model, *self._taken, self.moment.latent, temperature=self.temperature)

    def close(self) -> None:
        """End the real game, if there is one."""
        self._leave_real()

    @property
    def _here(self) -> World:
        return self._race or self._real or self._dream

    def _arrive(self, moment: Moment) -> None:
        self.moment = moment
        self._before = moment.latent
        self._taken = None
        self._phase = self._ahead = self._since_end = 0.0
        self.driver.begin(len(self._here.seen[0]))

    def _leave_real(self) -> None:
        self.world, self._race = DREAM, None
        if self._real is not None:
            real, self._real = self._real, None
            real.close()

    def _wake_in_dream(self) -> None:
        self._leave_real()
        self._arrive(self._dream.reset())


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ConfigurationError(f"{name}={value!r} is not known. {did_you_mean(str(value), known)}")
    return value
