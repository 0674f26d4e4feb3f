"""What "auto" stands for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dreamenv.envs import DreamVectorEnv
from dreamenv.memory.mdn_rnn.fast.precision import faster_precision
from tests.fakes import fake_world_model, trained_like_world_model

CPU = torch.device("cpu")


def with_capabilities(monkeypatch: pytest.MonkeyPatch, found: dict[str, Any]) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)


def test_bfloat16_takes_a_processor_with_units_for_it_and_many_dreams(monkeypatch: pytest.MonkeyPatch) -> None:
    with_capabilities(monkeypatch, {"amx_bf16": True})
    assert faster_precision(256, CPU) == "bfloat16"
    assert faster_precision(255, CPU) == "float32"
    assert faster_precision(4096, torch.device("cuda")) == "float32"
    for without in ({"amx_bf16": False}, {}):
        with_capabilities(monkeypatch, without)
        assert faster_precision(4096, CPU) == "float32"
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # an older torch
    assert faster_precision(4096, CPU) == "float32"


def test_an_environment_says_its_precision_and_its_clone_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with_capabilities(monkeypatch, {"amx_bf16": True})
    model = trained_like_world_model()
    envs = DreamVectorEnv(model, 256)
    assert envs.rollout.precision == "bfloat16"
    assert DreamVectorEnv(model, 256, precision="float32").rollout.precision == "float32"
    with_capabilities(monkeypatch, {})
    assert envs.clone().rollout.precision == "bfloat16"
    assert DreamVectorEnv(model, 256).rollout.precision == "float32"


def test_a_model_without_such_a_step_dreams_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    with_capabilities(monkeypatch, {"amx_bf16": True})
    assert DreamVectorEnv(fake_world_model(), 256).rollout.precision == "float32"
