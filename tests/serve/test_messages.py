"""What a browser may send."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamenv.errors import ConfigurationError
from dreamenv.serve import messages
from dreamenv.serve.messages import read_message

GOOD: list[tuple[dict[str, Any], Any]] = [
    ({"type": "keys", "keys": ["LEFT", "UP"]}, messages.Keys(type="keys", keys=["LEFT", "UP"])),
    ({"type": "wheel", "wheel": "agent"}, messages.Wheel(type="wheel", wheel="agent")),
    ({"type": "world", "world": "real"}, messages.EnterWorld(type="world", world="real")),
    ({"type": "here"}, messages.Here(type="here")),
    ({"type": "catch_up"}, messages.CatchUp(type="catch_up")),
    ({"type": "real_frame"}, messages.RealFrame(type="real_frame")),
    ({"type": "begin", "seed": 7, "moment": "AAA"}, messages.Begin(type="begin", seed=7, moment="AAA")),
    ({"type": "share"}, messages.Share(type="share")),
    ({"type": "clip"}, messages.Clip(type="clip")),
    ({"type": "temperature", "value": 1}, messages.Temperature(type="temperature", value=1.0)),
    ({"type": "rate", "value": 30.5}, messages.Rate(type="rate", value=30.5)),
    ({"type": "pause", "paused": True}, messages.Pause(type="pause", paused=True)),
    ({"type": "step"}, messages.Step(type="step")),
    ({"type": "reset"}, messages.Reset(type="reset")),
    ({"type": "view", "view": "fan"}, messages.View(type="view", view="fan")),
    ({"type": "mixture", "shown": False}, messages.ShowMixture(type="mixture", shown=False)),
    ({"type": "latent", "values": [0.5, -1]}, messages.Latent(type="latent", values=[0.5, -1.0])),
    ({"type": "take", "future": 8}, messages.Take(type="take", future=8)),
    ({"type": "dream_on"}, messages.DreamOn(type="dream_on")),
]
BAD: list[tuple[str, str]] = [
    ("", "JSON"),
    ("{", "JSON"),
    ("[]", "dict|object"),
    ("null", "dict|object"),
    ('{"type": "jump"}', "does not match any of the expected tags"),
    ("{}", "discriminator"),
    ('{"type": "step", "twice": true}', "twice: Extra inputs"),
    ('{"type": "keys", "keys": ["ENTER"]}', "LEFT"),
    ('{"type": "keys", "keys": "LEFT"}', "array"),
    (json.dumps({"type": "keys", "keys": ["LEFT"] * 15}), "at most 14"),
    ('{"type": "temperature", "value": 0}', "greater than or equal to 0.05"),
    ('{"type": "temperature", "value": "1"}', "number"),
    ('{"type": "temperature", "value": NaN}', "finite|JSON"),
    ('{"type": "rate", "value": 1e9}', "less than or equal to 60"),
    ('{"type": "take", "future": 9}', "less than 9"),
    ('{"type": "take", "future": 1.5}', "integer"),
    ('{"type": "pause", "paused": 1}', "boolean"),
    ('{"type": "latent", "values": []}', "at least 1"),
    (json.dumps({"type": "latent", "values": [0.0] * 1025}), "at most 1024"),
    ('{"type": "latent", "values": [0.0, 1e39]}', "less than or equal to 10000"),
    ('{"type": "world", "world": "heaven"}', "'dream', 'real' or 'race'"),
    ('{"type": "begin", "seed": -1}', "greater than or equal to 0"),
    (json.dumps({"type": "begin", "seed": 1, "moment": "A" * 16385}), "at most 16384"),
]


@pytest.mark.parametrize(("sent", "wanted"), GOOD, ids=lambda item: item["type"] if isinstance(item, dict) else "")
def test_good_messages_are_read(sent: dict[str, Any], wanted: Any) -> None:
    assert read_message(json.dumps(sent)) == wanted


def test_every_kind_of_message_is_tried() -> None:
    kinds = {kind.model_fields["type"].annotation.__args__[0] for kind in messages.Message.__args__}
    assert {sent["type"] for sent, _ in GOOD} == kinds


@pytest.mark.parametrize(("text", "reason"), BAD)
def test_bad_messages_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        read_message(text)


@settings(max_examples=50)
@given(st.one_of(st.text(), st.binary()))
def test_nothing_else_is_raised_whatever_comes(text: str | bytes) -> None:
    with pytest.raises(ConfigurationError):
        read_message(text)


def test_a_reason_is_short_however_much_is_wrong() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_message(json.dumps({"type": "keys", "keys": ["NO"] * 14}))
    assert len(str(caught.value)) < 500
