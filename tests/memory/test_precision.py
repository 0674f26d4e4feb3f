"""What "auto" means: a measurement decides, once, and is kept for this machine and model."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from dreamenv.envs import DreamVectorEnv
from dreamenv.envs.elsewhere import PackedModel
from dreamenv.memory import precision
from dreamenv.memory.base import MemoryModel, Stepper
from dreamenv.memory.mdn_rnn.fast.batched import BatchedStepper
from dreamenv.memory.precision import CACHE_VARIABLE, faster_precision
from dreamenv.memory.precision import seconds_of_a_step as really_measure
from tests.fakes import fake_world_model, trained_like_world_model
from tests.memory.rssm.test_model import small as small_rssm
from tests.memory.small_memory import seeded, small


class Speeds:
    """Stands in for the measurement.

    Attributes:
        seconds: What it finds.
        measured: Rows of each measurement so far.
        meanwhile: Called within a measurement.
    """

    def __init__(self) -> None:
        self.seconds = {"float32": 2.0, "bfloat16": 1.0}
        self.measured: list[int] = []
        self.meanwhile: Callable[[], Any] = lambda: None

    def __call__(self, memory: Any, rows: int, make: Any, actions: Any) -> dict[str, float]:
        self.measured.append(rows)
        self.meanwhile()
        return self.seconds


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def speeds(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Speeds:
    found = Speeds()
    monkeypatch.setattr(precision, "seconds_of_a_step", found)
    monkeypatch.setattr(precision, "_known", {})
    return found


def ask(rows: int = 256, memory: MemoryModel[Any] | None = None) -> str:
    return (memory or small()).stepper(rows).precision


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process."""
    monkeypatch.setattr(precision, "_known", {})


def test_bfloat16_has_to_be_a_tenth_faster(speeds: Speeds, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for place, (seconds, expected) in enumerate([(1.12, "bfloat16"), (1.08, "float32"), (0.5, "float32")]):
        monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / str(place)))
        speeds.seconds = {"float32": seconds, "bfloat16": 1.0}
        assert ask() == expected


def test_few_dreams_are_not_measured(speeds: Speeds, cache: Path) -> None:
    assert ask(255) == ask(1) == "float32"
    assert not speeds.measured
    assert not cache.exists()


def test_numbers_of_dreams_share_the_nearest_power_of_two(speeds: Speeds) -> None:
    assert {ask(rows) for rows in (256, 300, 500, 600, 5000, 10**6)} == {"bfloat16"}
    assert speeds.measured == [256, 512, 4096]


def test_a_later_process_does_not_measure_again(speeds: Speeds, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask() == ask() == "bfloat16"
    forget(monkeypatch)
    speeds.seconds = {"float32": 1.0, "bfloat16": 2.0}
    assert ask() == "bfloat16"
    assert speeds.measured == [256]


def test_another_machine_dreams_in_the_precision_of_the_one_that_asks_it(
    speeds: Speeds, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(precision, "_told", {})
    model = trained_like_world_model()
    packed, near = (pickle.loads(pickle.dumps(PackedModel.of(model, far=far))) for far in (True, False))  # noqa: S301
    assert speeds.measured == [256, 512, 1024, 2048, 4096]
    forget(monkeypatch)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "there"))
    speeds.seconds = {"float32": 1.0, "bfloat16": 2.0}
    assert ask(300, near.unpack().memory) == "float32"
    assert [ask(rows, packed.unpack().memory) for rows in (255, 300, 10**6)] == ["float32", "bfloat16", "bfloat16"]


def test_other_circumstances_are_measured_anew(speeds: Speeds, monkeypatch: pytest.MonkeyPatch) -> None:
    ask()
    refitted = small()
    with torch.no_grad():
        refitted.reward_head.network[2].bias.add_(1.0)
    ask(memory=refitted)
    assert len(speeds.measured) == 1, "numbers that a fit changes are no circumstances"
    ask(memory=small(hidden_size=20))
    ask(memory=small_rssm())
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    ask()
    monkeypatch.setattr(torch, "__version__", "9.9")
    ask()
    monkeypatch.setattr(precision, "_processor", lambda: ["another"])
    ask()
    assert len(speeds.measured) == 6


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff", b'{"precision": "float16"}', b'{"precision": []}'])
def test_a_damaged_cache_is_measured_anew_and_replaced(
    damage: bytes, speeds: Speeds, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask()
    (file,) = (cache / "precision").iterdir()
    file.write_bytes(damage)
    forget(monkeypatch)
    assert ask() == "bfloat16"
    assert len(speeds.measured) == 2
    kept = json.loads(file.read_text(encoding="utf-8"))
    assert (kept["precision"], kept["rows"], kept["torch"]) == ("bfloat16", 256, torch.__version__)
    assert [each.name for each in (cache / "precision").iterdir()] == [file.name], "nothing else is left"


def test_of_two_processes_the_first_to_finish_decides(
    speeds: Speeds, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask()
    (file,) = (cache / "precision").iterdir()
    others = file.read_bytes()
    file.unlink()
    forget(monkeypatch)
    speeds.seconds = {"float32": 1.0, "bfloat16": 2.0}
    speeds.meanwhile = lambda: file.write_bytes(others)
    assert ask() == "bfloat16"
    assert file.read_bytes() == others


def test_without_a_place_it_is_kept_in_the_process(
    speeds: Speeds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "below"))
    assert ask() == ask() == "bfloat16"
    assert speeds.measured == [256]


def test_the_users_cache_folder_is_the_place_unless_another_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert precision._cache_folder() == tmp_path / "dreamenv"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert precision._cache_folder() == tmp_path / ".cache" / "dreamenv"


def test_an_environment_says_its_precision_and_its_clone_keeps_it(
    speeds: Speeds, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = trained_like_world_model()
    envs = DreamVectorEnv(model, 256)
    assert envs.rollout.precision == "bfloat16"
    assert DreamVectorEnv(model, 256, precision="float32").rollout.precision == "float32"
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "other"))
    speeds.seconds = {"float32": 1.0, "bfloat16": 1.0}
    assert envs.clone().rollout.precision == "bfloat16"
    assert DreamVectorEnv(model, 256).rollout.precision == "float32"


def test_a_model_of_one_precision_is_not_measured(speeds: Speeds) -> None:
    assert DreamVectorEnv(fake_world_model(), 256).rollout.precision == "float32"
    assert small(width=4).stepper(256).precision == "float32"
    assert not speeds.measured


def test_the_measurement_is_of_steps_in_turn_and_takes_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only steps move: the second in float32 is disturbed, the first ones in bfloat16 are slow."""
    memory, now, steps = small(), [0.0], {"float32": 0, "bfloat16": 0}
    monkeypatch.setattr(precision, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def make(name: str) -> Stepper[Any]:
        stepper = BatchedStepper(memory, "float32")

        def step(state: Any, action: Tensor, **options: Any) -> Any:
            assert len(state.latent) == len(action) == 8
            steps[name] += 1
            assert abs(steps["float32"] - steps["bfloat16"]) <= 1, "in turn"
            slow = steps[name] <= 2 if name == "bfloat16" else steps[name] == 4
            now[0] += (0.004 if name == "float32" else 0.003) + 10.0 * slow
            return stepper(state, action, **options)

        return step  # type: ignore[return-value]

    before = torch.random.get_rng_state()
    found = really_measure(memory, 8, make, memory.action_encoder.some)
    assert found == pytest.approx({"float32": 0.004, "bfloat16": 0.003})
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("space", ["box", "discrete"])
def test_both_kinds_can_be_measured(space: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "seconds_of_a_step", really_measure)
    monkeypatch.setattr(precision, "_known", {})
    for memory in (small(space), small_rssm(space), small_rssm(space, "gaussian")):
        assert memory.stepper(256).precision in precision.PRECISIONS
    assert len(list((cache / "precision").iterdir())) == 3


def test_an_action_for_the_measurement_is_of_the_space() -> None:
    for space in ("box", "discrete"):
        encoder = small(space).action_encoder
        encoded = encoder(encoder.some(3))
        assert encoded.shape == (3, encoder.size)
        assert float(encoded.abs().max()) <= 1.0
    assert faster_precision(small(), 3, lambda _: pytest.fail("measured"), lambda _: seeded()) == "float32"  # type: ignore[arg-type,return-value]
