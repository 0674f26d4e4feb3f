"""What the site says of the dreams is what registry, bundles, docstrings and stored results say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from dreamenv import registry
from dreamenv.envs import DreamEnv, DreamVectorEnv
from dreamenv.files import sha256_of
from dreamenv.world_model import WorldModel
from tests.docs.site import DOCS, extension

dream_facts = extension("dream_facts")
dream_figures = extension("dream_figures")
SHIPPED = sorted(dream_facts.shipped())
# What the pages ask for
MEASURED = sorted(
    match
    for page in DOCS.rglob("*.md")
    for match in re.findall(r"^```\{(gap|temperature)\} (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
)
EXPERIMENTS = """
## Doom

| no. | real [95%] (episodes) | dream (τ) | base | change | kept | real frames |
|---|---|---|---|---|---|---|
| 1 | | | | paper | dropped | 1,000 |
| 2 | validation 285 (30) | 1164 (1.15) | 1 | rare | dropped | 1,000 |
| 3 | **804 ± 477 [715, 896] (100)**; validation 772 | 645 (1.0) | 2 | more | shipped | 1,000 |

| no. | command | seeds | time |
|---|---|---|---|
| 1 | `train` | 1 | 645 (1.0) |

## CarRacing

| no. | real [95%] (episodes) | dream (τ) | base | change | kept | real frames |
|---|---|---|---|---|---|---|
| 4 | validation -83 (8) | -4 over 60 steps | | map | dropped | |
| 5 | validation -83 (10) | -86.5 (1.0) | 4 | loop | dropped | 2,000 |
| 6 | **338.9 ± 330.2 [274.2, 404.3] (100)** | 702 ± 219 (1.0) | 5 | PPO | kept | |
| 7 | validation 593 ± 77, 361 ± 180 (8 each); again: **3** | rounds 0 to 1: 1,579, 602 (0.5) | 6 | loop | kept | |
| 8 | validation -61, -75, 3 (20 each) | 23, -50 (1.0) | 6 | rounds | kept | |
"""


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_dream_has_its_page(name: str) -> None:
    text = dream_facts.page_of(name).read_text(encoding="utf-8")
    for directive in ("dream-arguments", "model-card"):
        assert f"```{{{directive}}} {name}\n" in text
    assert registry.find(name).section.latent_id in text.splitlines()[0]


def test_a_dream_without_a_page_is_named() -> None:
    with pytest.raises(LookupError, match="DreamChess-v0 needs one page"):
        dream_facts.page_of("DreamChess-v0")


def test_the_list_gives_the_bundles_scores() -> None:
    table = dream_facts.dream_table().replace("\N{NO-BREAK SPACE}", " ")
    for name in SHIPPED:
        file = registry.find(name).checkpoint / "config.json"
        provenance = json.loads(file.read_text(encoding="utf-8"))["provenance"]
        (row,) = [line for line in table.splitlines() if f"`{name}`" in line]
        for part in (provenance["score"], provenance["baseline"]):
            assert f"{part['mean']:.0f} ± {part['std']:.0f} ({part['episodes']})" in row
        assert f"{provenance['score']['real_frames']:,}" in row


@pytest.mark.parametrize("name", SHIPPED)
def test_facts_are_those_of_the_environment(name: str) -> None:
    model = WorldModel.load(name)
    env = gym.make(name)
    text = dream_facts.facts(name)
    assert f"`{dream_facts.show_space(env.action_space)}`" in text
    assert f"({env.observation_space.shape[0]},), float32)" in text
    assert (
        f"{env.spec.max_episode_steps:,} actions ({env.spec.max_episode_steps * model.real.action_repeat:,} real"
        in text
    )
    assert f"{sum(part.numel() for part in model.memory.parameters()):,}" in text
    assert f"{model.start_count('replay'):,} replay" in text


def test_spaces_are_shown_without_loss() -> None:
    show = dream_facts.show_space
    assert show(gym.spaces.Discrete(3)) == "Discrete(3)"
    assert show(gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)) == "Box(0, 255, (64, 64, 3), uint8)"
    car = gym.spaces.Box(np.array([-1, 0, 0], np.float32), np.ones(3, np.float32))
    assert show(car) == "Box([-1, 0, 0], 1, (3,), float32)"
    largest = float(np.finfo(np.float32).max)
    assert show(gym.spaces.Box(-largest, largest, (2,), np.float32)) == "Box(-3.4e+38, 3.4e+38, (2,), float32)"


def test_every_keyword_argument_is_documented_with_its_default() -> None:
    import inspect

    for environment in (DreamEnv, DreamVectorEnv):
        documented = {name: default for name, default, _ in dream_facts.documented_arguments(environment)}
        parameters = dict(inspect.signature(environment).parameters)
        del parameters["world_model"]
        assert documented.keys() == parameters.keys()
    assert documented["num_envs"] == 1
    assert documented["autoreset_mode"] == "NextStep"
    table = dream_facts.arguments(SHIPPED[0])
    temperature = registry.find(SHIPPED[0]).section.dream.temperature
    assert f"| `temperature` | `{temperature!r}` | Spread of what M draws" in table
    assert len([line for line in table.splitlines() if line.startswith("| `temperature`")]) == 1


def test_the_model_card_goes_one_heading_deeper() -> None:
    card = dream_facts.model_card(SHIPPED[0])
    headings = [line for line in card.splitlines() if line.startswith("#")]
    assert headings
    assert all(line.startswith("### ") for line in headings)


def test_a_measurement_tells_when_the_bundle_has_changed(tmp_path: Path) -> None:
    name, figures, stored = SHIPPED[0], tmp_path / "figures.yaml", tmp_path / "stored" / "own-gap"
    entry = f"{{what: a gap, runner: gap, minutes: 1, commands: [dreamenv gap {name}]}}"
    figures.write_text(f"format: 1\nfigures:\n  own-gap: {entry}\n", encoding="utf-8")
    with pytest.raises(LookupError, match="own-gap is not stored; run dreamenv reproduce own-gap"):
        dream_facts.measurement("gap", name, figures)
    with pytest.raises(LookupError, match=f"expected one published temperature of {name}, found 0"):
        dream_facts.measurement("temperature", name, figures)
    stored.mkdir(parents=True)
    (stored / "gap.json").write_text('{"seeds": [1]}', encoding="utf-8")
    own = {"model.safetensors": sha256_of(registry.find(name).checkpoint / "model.safetensors")}
    for hashes, words in ((own, "on the shipped bundle"), ({"model.safetensors": "0" * 64}, "on an earlier bundle")):
        (stored / "record.json").write_text(json.dumps({"sha256": {name: hashes}}), encoding="utf-8")
        found = dream_facts.measurement("gap", name, figures)
        assert words in found["note"]
        assert found["gap"] == {"seeds": [1]}


def test_dreamed_and_real_returns_are_read_off_the_experiments() -> None:
    assert dream_facts.dreamed_and_real(EXPERIMENTS) == [
        {"number": "2", "dream": "Doom", "dreamed": 1164.0, "real": 285.0},
        {"number": "3", "dream": "Doom", "dreamed": 645.0, "real": 804.0},
        {"number": "5", "dream": "CarRacing", "dreamed": -86.5, "real": -83.0},
        {"number": "6", "dream": "CarRacing", "dreamed": 702.0, "real": 338.9},
        {"number": "7", "dream": "CarRacing", "dreamed": 1579.0, "real": 593.0},
        {"number": "7", "dream": "CarRacing", "dreamed": 602.0, "real": 361.0},
    ]


def test_every_row_of_the_experiments_has_its_command_in_its_own_section() -> None:
    def numbers(table: str) -> list[str]:
        cells: list[str] = re.findall(r"^\| (\d+(?:, \d+)*) \|", table, flags=re.MULTILINE)
        return sorted(number for cell in cells for number in cell.split(", "))

    _, *sections = (DOCS / "experiments.md").read_text(encoding="utf-8").split("\n## ")
    tables = [section.partition("<details>") for section in sections]
    assert sum(len(numbers(rows)) for rows, _, _ in tables) > 100
    for rows, _, commands in tables:
        assert numbers(rows) == numbers(commands.partition("</details>")[0]), rows.partition("\n")[0]


def test_the_experiments_hold_the_agents_that_make_the_point() -> None:
    """Those whose dream promised much more than reality paid are the reason for the figure."""
    rows = dream_facts.dreamed_and_real((DOCS / "experiments.md").read_text(encoding="utf-8"))
    betrayed = {row["number"] for row in rows if row["dream"] == "CarRacing" and row["dreamed"] > row["real"] + 150}
    assert {"26", "27", "31", "32"} <= betrayed


def test_published_agents_are_those_with_both_returns() -> None:
    found = {row["number"]: row for row in dream_facts.published_agents()}
    assert {"doom-ppo", "doom-dqn", "car-ppo"} <= found.keys()
    assert found["doom-ppo"]["dream"] == "Doom"
    assert found["doom-ppo"]["dreamed"] > found["doom-ppo"]["real"] > 0


def test_every_experiment_is_a_point() -> None:
    figure, _ = dream_figures.dreamed_and_real_figure(dream_facts.dreamed_and_real(EXPERIMENTS))
    doom, car = figure.axes
    assert (doom.get_title(), car.get_title()) == ("Doom", "CarRacing")
    assert doom.lines[1].get_xydata().tolist() == [[1164, 285], [645, 804]]
    assert len(car.lines[1].get_xydata()) == len(car.texts) == 4
    one = [row for row in dream_facts.dreamed_and_real(EXPERIMENTS) if row["number"] != "2"]
    assert len(dream_figures.dreamed_and_real_figure(one)[0].axes) == 1  # a single point compares nothing


@pytest.mark.parametrize(("what", "name"), MEASURED)
def test_what_was_measured_can_be_drawn(what: str, name: str) -> None:
    found = dream_facts.measurement(what, name)
    if what == "gap":
        texts = [text for _, text in dream_figures.gap_figures(found["gap"])]
        assert sum("mean reward of real steps" in text for text in texts) == 1
        assert sum("ends the real episode" in text for text in texts) == (found["gap"]["real_ends"] > 0)
        assert len(texts) == 3 + (found["gap"]["real_ends"] > 0)
        assert len(dream_figures.gap_table(found["gap"]).splitlines()) == 2 + len(found["gap"]["open_loop"])
    else:
        figure, text = dream_figures.temperature_figure(found["temperature"], name)
        provenance = json.loads((registry.find(name).checkpoint / "config.json").read_text("utf-8"))["provenance"]
        levels = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_linestyle() == "--"]
        assert levels == [provenance["score"]["mean"], provenance["baseline"]["mean"]]
        assert f"{found['temperature'][0]['dreams']} dreams" in text


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    assert dream_facts.table(("a",), [["x | y"]]).splitlines()[-1] == "| x \\| y |"


def test_the_help_of_every_verb_is_there() -> None:
    groups = extension("command_help").verbs()
    assert list(groups)[:3] == ["Look", "Train", "Measure"]
    pages = {name: text for texts in groups.values() for name, text in texts}
    assert {"dreamenv list", "dreamenv train", "dreamenv data", "dreamenv data show"} <= pages.keys()
    assert all(f"Usage: {name}" in text for name, text in pages.items())
    assert all(f"Example: {name}" in " ".join(text.split()) for name, text in pages.items())


def test_the_keys_of_a_registry_are_those_of_its_schema() -> None:
    text = extension("registry_reference").reference()
    assert "| `image_size` | whole number, at least 1 | `64` |" in text
    assert "| `latent_id` | text | required | Id of the latent twin" in text
    assert "| `start` | `first`, `initial`, `replay` | `initial` |" in text
    assert "| `crop` | list or none | none |" in text


def test_a_key_that_nobody_describes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = extension("registry_reference")
    monkeypatch.setitem(reference.SECTIONS, "environments.ID", (reference.DreamSection, reference.RealEnvSpec))
    with pytest.raises(LookupError, match=r"describes no (start, )?temperature|describes no start, temperature"):
        reference.reference()


def test_examples_tell_what_comes_before_and_how_long_they_take(root: Path) -> None:
    rows = extension("example_list").examples().splitlines()[2:]
    assert len(rows) == len(list((root / "examples").glob("[0-9]*.py")))
    assert "| `02_collect_and_train.py` | under a minute |" in rows[2]
    for row in rows:
        assert all((root / "examples" / name).exists() for name in re.findall(r"`(\d\d_\w+\.py)`", row))


def test_the_first_use_of_a_word_leads_to_the_glossary() -> None:
    nodes = pytest.importorskip("docutils.nodes")
    links = extension("glossary_links")
    paragraph = nodes.paragraph("", "", nodes.Text("A latent twin has latents; latents and a VAE."))
    linked: set[str] = set()
    links.link_first_uses(paragraph[0], linked, "page")
    found = [node for node in paragraph if node.tagname == "pending_xref"]
    assert paragraph.astext() == "A latent twin has latents; latents and a VAE."
    assert [(node.astext(), node["reftarget"]) for node in found] == [
        ("latent twin", "latent twin"),
        ("latents", "latent"),
        ("VAE", "VAE"),
    ]
    glossary = (DOCS / "glossary.md").read_text(encoding="utf-8").splitlines()
    assert set(links.WORDS.values()) <= set(glossary)
