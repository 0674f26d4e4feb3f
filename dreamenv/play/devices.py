"""Keyboard and gamepad of a window, from pygame's events to the player's hands and commands."""

from __future__ import annotations

from typing import Any

from dreamenv.play.controls import Hands
from dreamenv.types import ARROWS, DIGITS

PAUSE, STEP, RESET, HAND_OVER, SWITCH = "pause", "step", "reset", "hand over", "switch"
COOLER, HOTTER, SLOWER, FASTER, RECORD, QUIT = "cooler", "hotter", "slower", "faster", "record", "quit"

# Of each command: what is written beside the picture, key and meaning, and the names that pygame gives to its keys
COMMANDS = {
    PAUSE: ("Space", "pause, resume", ("space", "p")),
    STEP: (".", "one step", (".",)),
    RESET: ("R", "restart", ("r",)),
    HAND_OVER: ("H", "you or the agent", ("h",)),
    SWITCH: ("T", "dream, real, race", ("t",)),
    COOLER: ("[", "lower temperature", ("[",)),
    HOTTER: ("]", "higher temperature", ("]",)),
    SLOWER: ("-", "slower", ("-",)),
    FASTER: ("=", "faster", ("=", "+")),
    RECORD: ("V", "record, stop", ("v",)),
    QUIT: ("Esc", "leave", ("escape", "q")),
}
# Buttons of a pad with the layout that SDL gives to most of them
BUTTONS = {0: PAUSE, 1: RESET, 2: HAND_OVER, 3: SWITCH, 4: COOLER, 5: HOTTER, 6: STEP, 7: RECORD}
_STICK_X, _STICK_Y, _LEFT_TRIGGER, _RIGHT_TRIGGER = 0, 1, 2, 5
_DEAD_ZONE = 0.15


class Devices:
    """Follows pygame's events; sticks and triggers count beside the keys.

    Args:
        pygame: The module, imported by who opens the window.
    """

    def __init__(self, pygame: Any) -> None:
        self._pygame = pygame
        self._commands = {key: command for command, (_, _, keys) in COMMANDS.items() for key in keys}
        self._held: set[str] = set()
        self._axes: dict[int, float] = {}
        self._hat = (0, 0)
        self._pads: dict[int, Any] = {}

    def follow(self, event: Any) -> str | None:
        """Take note of an event; the command it gives, if it is one."""
        pygame = self._pygame
        if event.type == pygame.QUIT:
            return QUIT
        if event.type in (pygame.KEYDOWN, pygame.KEYUP):
            return self._key(pygame.key.name(event.key), event.type == pygame.KEYDOWN)
        if event.type == pygame.WINDOWFOCUSLOST:
            self._held.clear()  # the release of a key would not be heard
        elif event.type == pygame.JOYBUTTONDOWN:
            return BUTTONS.get(event.button)
        elif event.type == pygame.JOYAXISMOTION:
            self._axes[event.axis] = event.value
        elif event.type == pygame.JOYHATMOTION:
            self._hat = event.value
        elif event.type == pygame.JOYDEVICEADDED:
            pad = pygame.joystick.Joystick(event.device_index)
            self._pads[pad.get_instance_id()] = pad  # a pad that nobody holds on to sends no events
        elif event.type == pygame.JOYDEVICEREMOVED:
            self._pads.pop(event.instance_id, None)
            self._axes.clear()
        return None

    @property
    def hands(self) -> Hands:
        """What the player does now."""
        keys = Hands.of_keys(self._held)
        across, along = self._stick(_STICK_X) + self._hat[0], self._hat[1] - self._stick(_STICK_Y)
        return Hands(
            sideways=_within(keys.sideways + across),
            forward=_within(keys.forward + max(along, 0.0) + self._trigger(_RIGHT_TRIGGER)),
            back=_within(keys.back + max(-along, 0.0) + self._trigger(_LEFT_TRIGGER)),
            digit=keys.digit,
        )

    def _key(self, name: str, down: bool) -> str | None:
        key = name.upper()
        if key in ARROWS or key in DIGITS:
            (self._held.add if down else self._held.discard)(key)
            return None
        return self._commands.get(name) if down else None

    def _stick(self, axis: int) -> float:
        value = self._axes.get(axis, 0.0)
        return value if abs(value) > _DEAD_ZONE else 0.0

    def _trigger(self, axis: int) -> float:
        # A trigger rests at -1, and says nothing before it is moved for the first time
        return (self._axes.get(axis, -1.0) + 1.0) / 2.0


def _within(value: float) -> float:
    return max(-1.0, min(1.0, value))
