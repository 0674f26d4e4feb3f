"""Checkpoints: exact, whole or not at all, and only of the same run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dreamenv.errors import BundleError, ConfigurationError
from dreamenv.training.checkpoint import load_tensors, load_training, save_tensors, save_training

SETTINGS = {"steps": 5, "learning_rate": 0.1, "model": {"kind": "x", "sizes": (1, 2)}}


def trained(seed: int, steps: int = 3) -> tuple[nn.Module, torch.optim.Adam]:
    generator = torch.Generator().manual_seed(seed)
    network = nn.Linear(3, 2)
    with torch.no_grad():
        for part in network.parameters():
            part.copy_(torch.randn(part.shape, generator=generator))
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        network(torch.randn(4, 3, generator=generator)).square().sum().backward()
        optimiser.step()
    return network, optimiser


def test_weights_moments_and_record_come_back(tmp_path: Path) -> None:
    network, optimiser = trained(1)
    best = {name: tensor + 1 for name, tensor in network.state_dict().items()}
    record = {"settings": SETTINGS, "step": 3, "best": {"loss": float("inf")}}
    file = tmp_path / "new" / "checkpoint.safetensors"
    save_training(file, network, optimiser, best, record)
    assert [other.name for other in file.parent.iterdir()] == [file.name]
    again, fresh = trained(2, steps=0)
    found, loaded = load_training(file, again, fresh, SETTINGS)
    assert (loaded["step"], loaded["best"]) == (3, {"loss": float("inf")})
    for name, tensor in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
        assert torch.equal(found[name], tensor + 1)
    # the next step of both is the same
    for model, adam in ((network, optimiser), (again, fresh)):
        adam.zero_grad()
        model(torch.ones(1, 3)).sum().backward()
        adam.step()
    for name, tensor in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_a_checkpoint_without_moments_is_one_too(tmp_path: Path) -> None:
    network, optimiser = trained(1, steps=0)
    save_training(tmp_path / "c", network, optimiser, {}, {"settings": SETTINGS})
    again, fresh = trained(2, steps=0)
    best, record = load_training(tmp_path / "c", again, fresh, SETTINGS)
    assert (best, record["settings"]["steps"]) == ({}, 5)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in network.state_dict().items())
    assert fresh.state_dict()["state"] == {}


def test_another_run_is_refused(tmp_path: Path) -> None:
    network, optimiser = trained(1)
    save_training(tmp_path / "c", network, optimiser, {}, {"settings": SETTINGS})
    with pytest.raises(ConfigurationError, match=r"written with learning_rate=0.1, this run has learning_rate=0.2"):
        load_training(tmp_path / "c", network, optimiser, SETTINGS | {"learning_rate": 0.2})


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_checkpoint_cut_short_is_named(tmp_path: Path, share: float) -> None:
    file = tmp_path / "checkpoint.safetensors"
    save_tensors(file, {"a": torch.arange(100)}, {"settings": {}})
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(BundleError, match=r"checkpoint\.safetensors: not a checkpoint of dreamenv.*delete it to start"):
        load_tensors(file)


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    for name in ("other.safetensors", "missing.safetensors"):
        with pytest.raises(BundleError, match=name):
            load_tensors(tmp_path / name)


def test_a_write_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "c"
    save_tensors(file, {"a": torch.zeros(2)}, {"step": 1})

    def breaks(path: Path, content: bytes) -> None:
        with path.open("wb") as handle:
            handle.write(content[: len(content) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", breaks)
    with pytest.raises(KeyboardInterrupt):
        save_tensors(file, {"a": torch.ones(2)}, {"step": 2})
    assert list(tmp_path.iterdir()) == [file]
    tensors, record = load_tensors(file)
    assert record == {"step": 1}
    assert torch.equal(tensors["a"], torch.zeros(2))


def test_tensors_of_any_layout_are_kept(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(2, 3, 2, 2)
    tensors = {"transposed": base[0, :, :, 0].T, "last": base.to(memory_format=torch.channels_last), "none": base[:0]}
    save_tensors(tmp_path / "c", tensors, {})
    found, _ = load_tensors(tmp_path / "c")
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
