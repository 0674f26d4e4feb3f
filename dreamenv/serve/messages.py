"""What a browser may send, checked before anything is made of it, and what it is answered.

A message is a JSON object with a `type`; unknown types, unknown keys and values out of range are refused, each with a
reply that says why.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from dreamenv.errors import ConfigurationError
from dreamenv.play.fan import FUTURES
from dreamenv.play.game import RATES, TEMPERATURES
from dreamenv.types import KEYS

LARGEST_MESSAGE = 32_768
# The largest whole number that JavaScript keeps
MOST_SEED = 2**53 - 1
# Far beyond those of any picture, and near enough for M to say something finite of it
LARGEST_LATENT = 1e4
_SHOWN_ERRORS = 3


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Keys(_Message):
    """The keys held down from now on."""

    type: Literal["keys"]
    keys: list[Literal[KEYS]] = Field(max_length=len(KEYS))  # type: ignore[valid-type]


class Wheel(_Message):
    """Who drives."""

    type: Literal["wheel"]
    wheel: Literal["human", "agent"]


class Here(_Message):
    """Somebody looks at the page, and presses nothing."""

    type: Literal["here"]


class EnterWorld(_Message):
    """Go to the dream, to the real environment, or to a race of both."""

    type: Literal["world"]
    world: Literal["dream", "real", "race"]


class CatchUp(_Message):
    """Let the dream of a race begin again at the real moment."""

    type: Literal["catch_up"]


class Temperature(_Message):
    """The dream's temperature."""

    type: Literal["temperature"]
    value: float = Field(ge=TEMPERATURES[0], le=TEMPERATURES[1])


class Rate(_Message):
    """Steps a second to aim at."""

    type: Literal["rate"]
    value: float = Field(ge=RATES[0], le=RATES[1])


class Pause(_Message):
    """Let time stand still, or go on."""

    type: Literal["pause"]
    paused: bool


class Step(_Message):
    """Stand still and take one step."""

    type: Literal["step"]


class Reset(_Message):
    """Begin an episode anew."""

    type: Literal["reset"]


class View(_Message):
    """What to look at: the drive, the fan of futures, or the latents."""

    type: Literal["view"]
    view: Literal["drive", "fan", "latents"]


class ShowMixture(_Message):
    """Whether to send the mixture's components."""

    type: Literal["mixture"]
    shown: bool


class Latent(_Message):
    """Latent numbers to decode, in the view of the latents."""

    type: Literal["latent"]
    values: list[Annotated[float, Field(ge=-LARGEST_LATENT, le=LARGEST_LATENT)]] = Field(min_length=1, max_length=1024)


class RealFrame(_Message):
    """Show another frame of the real environment, and what V makes of it."""

    type: Literal["real_frame"]


class Begin(_Message):
    """Dream as a link says: its seed, and the moment it holds, if it holds one."""

    type: Literal["begin"]
    seed: int = Field(ge=0, le=MOST_SEED)
    moment: str | None = Field(default=None, max_length=16_384)


class Share(_Message):
    """Ask for what a link to the present moment holds."""

    type: Literal["share"]


class Clip(_Message):
    """Ask for the last seconds as a GIF."""

    type: Literal["clip"]


class Take(_Message):
    """Dream on in one of the futures of the fan."""

    type: Literal["take"]
    future: int = Field(ge=0, lt=FUTURES)


class DreamOn(_Message):
    """Dream on from the latents as they are, changed or not."""

    type: Literal["dream_on"]


Message = (
    Keys
    | Wheel
    | Here
    | EnterWorld
    | CatchUp
    | Temperature
    | Rate
    | Pause
    | Step
    | Reset
    | View
    | ShowMixture
    | Latent
    | RealFrame
    | Begin
    | Share
    | Clip
    | Take
    | DreamOn
)
_MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="type")])


def read_message(text: str | bytes) -> Message:
    """The message in `text`.

    Raises:
        ConfigurationError: Not JSON, or not a message of this protocol; it says what is wrong with it.
    """
    try:
        return _MESSAGE.validate_json(text)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        reasons = [f"{_place(item['loc'])}{item['msg']}" for item in found[:_SHOWN_ERRORS]]
        raise ConfigurationError("; ".join(reasons)) from None


def error_reply(code: str, message: str) -> dict[str, Any]:
    """What a browser is told of something that went wrong; `code` is for programs, `message` for people."""
    return {"type": "error", "code": code, "message": message}


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) + ": " if location else ""
