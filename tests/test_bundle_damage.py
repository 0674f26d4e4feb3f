"""Bundles that were damaged: none dreams something else, and the message names the file and the key."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from torch import Tensor

from dreamenv import registry
from dreamenv.bundle import StartStates
from dreamenv.bundle_config import read_config, space_from_json, space_to_json
from dreamenv.errors import BundleError, ConfigurationError, RegistryError
from dreamenv.files import sha256_of
from dreamenv.memory.ensemble.model import ProbabilisticEnsemble
from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.memory.tabular import TabularMemory
from dreamenv.tensor_files import read_header
from dreamenv.types import RealEnvSpec
from dreamenv.vision.identity import IdentityVision
from dreamenv.world_model import WorldModel
from tests.damage import edit_config, edit_tensors, flip
from tests.fakes import BOX, DISCRETE, draw_weights, trained_like_world_model, write_registry

CONFIG, WEIGHTS, STARTS = "config.json", "model.safetensors", "starts.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "bundle"
    trained_like_world_model(image=False).save(folder)
    return folder


@pytest.fixture
def bundle(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "bundle"))


def refused(bundle: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        WorldModel.load(bundle)
    assert str(bundle) in str(caught.value)


def put(*keys: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        place = config
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


def test_every_shipped_file_has_a_sum_in_the_registry_and_in_its_bundle() -> None:
    shipped = registry.read_registry(registry.shipped_registry_path())
    assert shipped
    for entry in shipped.values():
        files = sorted(file.name for file in entry.checkpoint.iterdir() if file.suffix != ".md")
        assert sorted(entry.section.sha256) == files
        inside = read_config(entry.checkpoint)["files"]
        for name, value in entry.section.sha256.items():
            assert sha256_of(entry.checkpoint / name) == value
            if name in inside:
                assert inside[name]["sha256"] == value


def test_shipped_bundles_stay_small() -> None:
    for entry in registry.read_registry(registry.shipped_registry_path()).values():
        assert sum(file.stat().st_size for file in entry.checkpoint.iterdir()) <= 16e6


@pytest.mark.parametrize("name", [WEIGHTS, STARTS])
def test_a_flipped_bit_is_noticed_without_a_registry(bundle: Path, name: str) -> None:
    flip(bundle / name, -3)
    refused(bundle, rf"{name}: sha256 is [0-9a-f]{{64}}, config\.json wants")


def test_a_changed_figure_in_the_configuration_is_noticed(bundle: Path) -> None:
    text = (bundle / CONFIG).read_text(encoding="utf-8")
    assert '"temperature": 1.1' in text
    (bundle / CONFIG).write_text(text.replace('"temperature": 1.1', '"temperature": 9.1'), encoding="utf-8")
    refused(bundle, "has changed since it was saved")


def test_a_save_over_an_older_bundle_that_is_killed_is_noticed(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = trained_like_world_model(image=False)
    other.starts = StartStates(other.starts.first + 1, other.starts.replay)
    with torch.no_grad():
        other.memory.lstm.bias_hh_l0.add_(1)
    replace, calls = os.replace, 0

    def killed(*names: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        replace(*names)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        other.save(bundle)
    monkeypatch.undo()
    refused(bundle, r"model\.safetensors: sha256 .*a save over it was cut off")
    other.save(bundle)
    assert WorldModel.load(bundle).fingerprint() == other.fingerprint()


def test_what_killed_saves_have_left_is_removed(bundle: Path) -> None:
    # The highest number that no process has
    gone, mine = bundle / ".model.4194303-1.part.safetensors", bundle / f".model.{os.getpid()}-1.part.safetensors"
    gone.touch()
    mine.touch()
    trained_like_world_model(image=False).save(bundle)
    assert not gone.exists()
    assert mine.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("real", value=None), "real: found None"),
        (put("real", value={}), "real: .*id: missing key"),
        (put("real", "crop", value=3), "real: .*crop: found 3"),
        (put("real", "idx", value="x"), "real: .*idx: unknown key. Did you mean id"),
        (put("real", "id", value=3), "real: .*id: found 3"),
        (put("real", "action_repeat", value=0), "real: .*action_repeat: found 0"),
        (put("action_space", value=[]), "action_space: found list"),
        (put("action_space", "dtype", value="gloat32"), "action_space.dtype"),
        (put("action_space", "low", value=[1.0, 2.0, 3.0]), "action_space: found bounds of shapes"),
        (put("action_space", "low", value=[float("nan"), 0.0]), "action_space: found bounds"),
        (put("action_space", "low", value=["a", "b"]), "action_space: its bounds are no array"),
        (put("vision", value=None), "vision: found None"),
        (put("vision", "kind", value=[]), r"vision\.kind is \[\]"),
        (put("memory", value=3), "memory: found 3"),
        (put("memory", "mixtures", value=True), "memory.mixtures: found True"),
        (put("memory", "mixtures", value="2"), "memory.mixtures: found '2'"),
        (put("memory", "mixtures", value=-1), "memory: cannot be made: .*at least 1"),
        (put("memory", "cell_features", value="x"), "memory.cell_features: found 'x'"),
        (put("memory", "dropout", value=float("inf")), "memory: cannot be made"),
        (put("temperature", value=float("nan")), "temperature: found nan"),
        (put("temperature", value=-1.0), "temperature: found -1"),
        (put("max_episode_steps", value=0), "max_episode_steps: found 0"),
        (put("max_episode_steps", value="20"), "max_episode_steps: found '20'"),
        (put("provenance", value=[]), "provenance: found list"),
        (put("colour", value=1), "colour: unknown key"),
        (put("files", "model.safetensors", "sha256", value="abc"), "files.model.safetensors.sha256"),
        (lambda config: config["files"].pop("starts.safetensors"), "files.starts.safetensors: missing"),
    ],
)
def test_a_value_that_does_not_fit_is_named(
    bundle: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    edit_config(bundle, change)
    refused(bundle, rf"config\.json: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested more than"),
        ('{"a": ' * 150 + "1" + "}" * 150, "nested more than 100 times"),
        ('{"format_version": 2, "format_version": 2}', "'format_version' appears twice"),
        ("9" * 5000, "not JSON|expected an object"),
        ("\udcff".encode("utf-8", "surrogatepass").decode("latin-1"), "not JSON"),
    ],
)
def test_json_that_nobody_wrote(bundle: Path, text: str, message: str) -> None:
    (bundle / CONFIG).write_text(text, encoding="latin-1")
    refused(bundle, rf"config\.json: .*({message})")


@pytest.mark.parametrize(("key", "value"), [("hidden_size", 12_000), ("hidden_size", 10**9), ("mixtures", 10**9)])
def test_sizes_are_compared_before_anything_is_allocated(bundle: Path, key: str, value: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    edit_config(bundle, put("memory", key, value=value))
    refused(bundle, r"memory: does not fit model\.safetensors, which holds [0-9,]+ numbers")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_a_million_layers_are_not_made(tmp_path: Path) -> None:
    memory = ProbabilisticEnsemble(2, BOX, 2, 1, hidden_size=4, layers=1)
    starts = StartStates(torch.zeros(3, 2))
    model = WorldModel(IdentityVision(2), memory, RealEnvSpec("Own-v0"), BOX, starts, max_episode_steps=5)
    model.save(tmp_path)
    edit_config(tmp_path, put("memory", "layers", value=10**6))
    refused(tmp_path, "numbers are asked for|does not fit")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("file", [WEIGHTS, STARTS])
def test_numbers_that_are_not_finite_are_refused(bundle: Path, file: str, value: float) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[min(tensors)].view(-1)[0] = value

    edit_tensors(bundle, file, change)
    refused(bundle, rf"{file}: tensor .* not finite")


STATES: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "initial of 2 latents": lambda t: t.update(initial=t["initial"][:, :2]),
    "initial is a scalar": lambda t: t.update(initial=torch.tensor(1.0)),
    "initial has three axes": lambda t: t.update(initial=t["initial"][None]),
    "initial holds whole numbers": lambda t: t.update(initial=t["initial"].long()),
    "one field alone": lambda t: t.update({"settled.latent": torch.zeros(4, 4)}),
    "fields of different lengths": lambda t: t.update({"replay.hidden": torch.zeros(3, 8)}),
    "a field of another size": lambda t: t.update({"replay.hidden": torch.zeros(5, 7)}),
    "an unknown field": lambda t: t.update({"replay.x": torch.zeros(5, 3)}),
    "an unknown kind": lambda t: t.update({"later.latent": torch.zeros(5, 4)}),
    "a field is a scalar": lambda t: t.update({"replay.hidden": torch.tensor(1.0)}),
}


@pytest.mark.parametrize("what", STATES)
def test_start_states_that_are_not_the_memorys_are_refused(bundle: Path, what: str) -> None:
    edit_tensors(bundle, STARTS, STATES[what])
    refused(bundle, r"starts\.safetensors")


@pytest.mark.parametrize("place", [-1, 4])
def test_start_states_that_name_nothing_are_refused(tmp_path: Path, place: int) -> None:
    starts = StartStates(torch.eye(4), {"place": torch.tensor([0, 3])})
    parts = IdentityVision(4), TabularMemory(4, DISCRETE), RealEnvSpec("Own-v0"), DISCRETE, starts
    WorldModel(*parts, max_episode_steps=5).save(tmp_path)
    assert WorldModel.load(tmp_path).start_count("replay") == 2
    edit_tensors(tmp_path, STARTS, lambda tensors: tensors["replay.place"].fill_(place))
    refused(tmp_path, r"starts\.safetensors: replay")


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, STARTS])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "enormous"])
def test_only_plain_files_of_plausible_size_are_read(bundle: Path, name: str, kind: str) -> None:
    file = bundle / name
    if kind == "enormous":
        with file.open("r+b") as opened:
            opened.truncate(1 << 40)  # a hole: no byte of it is on the disk
    else:
        file.unlink()
        {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda path: os.symlink("/dev/zero", path)}[kind](file)
    refused(bundle, name.replace(".", r"\."))


def test_a_sum_of_a_file_that_no_bundle_has_is_refused(tmp_path: Path) -> None:
    def change(entry: dict[str, Any]) -> None:
        entry["sha256"]["model.safetensor"] = entry["sha256"].pop(WEIGHTS)

    path = write_registry(tmp_path, "DreamTypo-v0", trained_like_world_model(image=False), change=change)
    with pytest.raises(RegistryError, match=r"sha256.model\.safetensor"):
        registry.read_registry(path)


def offset_model(offset: float, *, scale: float = 1.0) -> WorldModel:
    """A model of a vector whose one number is near `offset`."""
    generator = torch.Generator().manual_seed(0)
    memory = MDNRNN(1, DISCRETE, hidden_size=8, mixtures=1, reward_head="mse")
    draw_weights(memory, generator)
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.mul_(scale)
    memory.latent_mean.fill_(offset)
    first = offset + torch.randn(64, 1, generator=generator)
    return WorldModel(
        IdentityVision(1), memory, RealEnvSpec("Own-v0"), DISCRETE, StartStates(first), max_episode_steps=9
    )


def test_half_precision_leaves_scales_means_and_vector_starts_alone(tmp_path: Path) -> None:
    saved = offset_model(30007.3)
    saved.save(tmp_path, half=True)
    loaded = WorldModel.load(tmp_path)
    assert torch.equal(loaded.memory.latent_mean, saved.memory.latent_mean)
    assert torch.equal(loaded.memory.latent_std, saved.memory.latent_std)
    assert torch.equal(loaded.starts.first, saved.starts.first)
    for name, part in saved.memory.named_parameters():
        torch.testing.assert_close(loaded.memory.get_parameter(name), part.half().float(), rtol=0, atol=0)


def test_half_precision_is_refused_where_it_changes_the_dream(tmp_path: Path) -> None:
    fragile = offset_model(0.0)
    with torch.no_grad():
        # A sum that cancels in all digits but the last: float16 leaves nothing of it
        weight = fragile.memory.reward_head.network[2].weight
        weight[:, 0::2], weight[:, 1::2] = 1000.3, -1000.3
        fragile.memory.reward_head.network[0].weight.mul_(0.01)
    with pytest.raises(ConfigurationError, match="half=True moves the .*: save this model with half=False"):
        fragile.save(tmp_path, half=True)
    fragile.save(tmp_path)
    assert WorldModel.load(tmp_path).fingerprint() == fragile.fingerprint()


def test_half_precision_halves_pictures_start_states(tmp_path: Path) -> None:
    model = trained_like_world_model()
    model.save(tmp_path / "half", half=True)
    model.save(tmp_path / "full")
    for name in (WEIGHTS, STARTS):
        types = {part: header.dtype for part, header in read_header(tmp_path / "half" / name).tensors.items()}
        kept = {part for part, dtype in types.items() if dtype == "F32"}
        assert kept == ({"memory.latent_mean", "memory.latent_std", "vision.colour_weights"} & types.keys())
        assert {header.dtype for header in read_header(tmp_path / "full" / name).tensors.values()} == {"F32"}
    once = WorldModel.load(tmp_path / "half")
    assert once.save(tmp_path / "again", half=True) == {
        name: sha256_of(tmp_path / "half" / name) for name in (CONFIG, WEIGHTS, STARTS)
    }


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    sums = [trained_like_world_model().save(tmp_path / str(number)) for number in range(3)]
    assert sums[0] == sums[1] == sums[2]


def test_box_spaces_of_pictures_are_read() -> None:
    space = gym.spaces.Box(0, 255, (2, 2, 3), "uint8")
    assert space_from_json(space_to_json(space)) == space
