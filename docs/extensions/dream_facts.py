"""What the pages say of a dream, as Markdown: read from registry, bundle, docstrings and stored results."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from dreamenv import registry
from dreamenv.bundle_config import CONFIG_FILE, read_config
from dreamenv.envs import DreamEnv, DreamVectorEnv
from dreamenv.files import read_json, sha256_of
from dreamenv.registry import DreamEntry, read_registry, shipped_registry_path
from dreamenv.workflows.published import SHIPPED, read_figures
from dreamenv.workflows.published.entries import read_outputs
from dreamenv.workflows.reproduce import RECORD
from dreamenv.world_model import OBSERVATION_KINDS, WorldModel

DOCS = Path(__file__).resolve().parent.parent


def shipped() -> dict[str, DreamEntry]:
    """The dreams of the package's own registry, by id."""
    return read_registry(shipped_registry_path())


def dream_table() -> str:
    """All shipped dreams: real environment, the shipped agent's real score, a random policy's, real frames."""
    rows = []
    for name, entry in shipped().items():
        provenance = read_config(entry.checkpoint)["provenance"]
        score, baseline = provenance["score"], provenance["baseline"]
        real = f"`{entry.section.real.id}`"
        scores = [f"{part['mean']:.0f} ± {part['std']:.0f} ({part['episodes']})" for part in (score, baseline)]
        scores = [text.replace(" ", "\N{NO-BREAK SPACE}") for text in scores]
        page = f"[`{name}`]({page_of(name).name})"
        rows.append([page, f"`{entry.section.latent_id}`", real, *scores, f"{score['real_frames']:,}"])
    heads = ("dream", "latent twin", "real environment", "shipped agent", "random policy", "real frames")
    return table(heads, rows)


def page_of(name: str) -> Path:
    """The page of a dream, which is the one that asks for its facts.

    Raises:
        LookupError: No page does, or several.
    """
    asking = re.compile(rf"^```\{{dream-facts\}} {re.escape(name)}$", re.MULTILINE)
    pages = [page for page in sorted((DOCS / "environments").glob("*.md")) if asking.search(page.read_text("utf-8"))]
    if len(pages) != 1:
        raise LookupError(f"{name} needs one page in docs/environments that asks for its facts, found {len(pages)}")
    return pages[0]


def facts(name: str) -> str:
    """Spaces, limits, parts and arguments of one dream."""
    entry = registry.find(name)
    model = WorldModel.load(name)
    return "\n\n".join([_spaces_table(entry, model), _observation_table(model), _parts_table(entry, model)])


def arguments(name: str) -> str:
    """The keyword arguments of `gym.make` and `gym.make_vec`: defaults of this dream, words of the docstrings."""
    dream = registry.find(name).section.dream
    defaults = {"temperature": dream.temperature, "start": dream.start}
    rows = [
        [f"`{key}`", f"`{defaults.get(key, default)!r}`", text, form]
        for environment, form in ((DreamEnv, "both"), (DreamVectorEnv, "vector"))
        for key, default, text in documented_arguments(environment)
        if form == "both" or key in ("num_envs", "max_episode_steps", "autoreset_mode", "precision", "compiled")
    ]
    return table(("argument", "default", "meaning", "form"), rows)


def documented_arguments(documented: type) -> list[tuple[str, Any, str]]:
    """Name, default and text of each keyword argument in the `Args:` of a class's docstring, the model's own aside."""
    text = inspect.getdoc(documented) or ""
    section = re.search(r"^Args:\n((?:    .*\n|\n)+)", text + "\n", re.MULTILINE)
    found = []
    parameters = inspect.signature(documented).parameters
    for item in re.split(r"\n(?=    \S)", section[1].rstrip() if section else ""):
        names, _, words = item.strip().partition(":")
        for key in (part.strip() for part in names.split(",")):
            if key in parameters and key != "world_model":
                default = parameters[key].default
                found.append((key, getattr(default, "value", default), re.sub(r"\s+", " ", words).strip()))
    return found


def _spaces_table(entry: DreamEntry, model: WorldModel) -> str:
    real, limit = model.real, model.max_episode_steps
    settings = {
        "Action space": f"`{show_space(model.action_space)}`",
        "Observation space": f"`{show_space(model.observation_space())}`",
        "Latent twin": f"`{entry.section.latent_id}`: the real environment through the same model, same spaces",
        "Real environment": f"`{real.id}`",
        "Real frames per action": f"{real.action_repeat}, their rewards summed",
        "Time limit": f"{limit:,} actions ({limit * real.action_repeat:,} real frames)",
        "Default temperature": f"{entry.section.dream.temperature:g}",
        "Import": f'`gym.make("{entry.id}")` after `import dreamenv`, or `gym.make("dreamenv:{entry.id}")`',
    }
    return table(("", ""), [[f"**{key}**", value] for key, value in settings.items()])


def _observation_table(model: WorldModel) -> str:
    size = model.memory.latent_size
    hidden = model.memory.feature_size - size
    apart = {
        "features": f"the latent z ({size} numbers), then what M remembers ({hidden})",
        "latent": "the latent z alone",
    }
    whole = {
        "features": f"what M remembers and what it has drawn, h and z ({size} numbers)",
        "latent": "the same, since V draws both",
    }
    meanings = {
        **(apart if hidden else whole),
        "pixels": "the picture that V draws of z",
        "state": "all that M remembers, in one vector: for planners",
    }
    kinds = [kind for kind in OBSERVATION_KINDS if kind != "pixels" or model.vision.is_image]
    rows = [[f'`"{kind}"`', f"`{show_space(model.observation_space(kind))}`", meanings[kind]] for kind in kinds]
    return table(("`observation=`", "space", "what it is"), rows)


def _parts_table(entry: DreamEntry, model: WorldModel) -> str:
    rows = []
    for name, part in (("vision V", model.vision), ("memory M", model.memory)):
        settings = {key: value for key, value in part.config().items() if key != "kind"}
        count = sum(weights.numel() for weights in part.parameters())
        shown = ", ".join(f"{key} {value}" for key, value in settings.items())
        rows.append([name, f"`{part.config()['kind']}`", f"{count:,}", shown])
    files = [file for file in entry.checkpoint.iterdir() if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    starts = ", ".join(f"{model.start_count(kind):,} {kind}" for kind in ("initial", "replay"))
    rows.append(["bundle", f"{size / 1e6:.1f} MB", "", f"start states: {starts}"])
    return table(("part", "kind", "weights", "settings"), rows)


def show_space(space: gym.Space[Any]) -> str:
    """A space on one line, bounds of a Box as short as they can be said without loss."""
    if not isinstance(space, gym.spaces.Box):
        return str(space)

    def bound(values: np.ndarray) -> str:
        different = np.unique(values)
        if len(different) > 1:
            return "[" + ", ".join(f"{value:g}" for value in values.ravel()) + "]"
        return f"{different[0]:.2g}" if abs(different[0]) > 1e6 else f"{different[0]:g}"

    return f"Box({bound(space.low)}, {bound(space.high)}, {space.shape}, {space.dtype})"


def model_card(name: str) -> str:
    """The card that lies in the bundle, without its title, its headings one level deeper."""
    text = (registry.find(name).checkpoint / "README.md").read_text(encoding="utf-8")
    _, _, body = text.partition("\n")
    return re.sub(r"^(#+ )", r"#\1", body.strip(), flags=re.MULTILINE)


def measurement(what: str, name: str, figures: str | Path = SHIPPED) -> dict[str, Any]:
    """What is stored of a dream's gap or temperature: under `what` the content, and as `note` how it was measured and
    whether the bundle was the shipped one.

    Raises:
        LookupError: No figure of the list is it, or it has not been published.
    """
    entries = read_figures(figures).values()
    found = [entry for entry in entries if entry.section.runner == what and name in entry.section.commands[0].split()]
    if len(found) != 1:
        raise LookupError(f"expected one published {what} of {name}, found {len(found)}")
    (entry,) = found
    if not entry.folder.exists():
        raise LookupError(f"{entry.name} is not stored; run dreamenv reproduce {entry.name}, and docs/fill_figures.py")
    (content,) = read_outputs(entry.folder, entry.files).values()
    record = read_json(entry.folder / RECORD)
    folder = registry.find(name).checkpoint
    measured = record["sha256"][name]
    # config.json holds the recorded scores too, so its hash tells nothing about the dream
    parts = {part: sha256 for part, sha256 in measured.items() if part != CONFIG_FILE}
    changed = [part for part, sha256 in parts.items() if sha256_of(folder / part) != sha256]
    note = f"Measured by `dreamenv reproduce {entry.name}` on the shipped bundle."
    if changed:
        short = ", ".join(f"{part} {measured[part][:12]}" for part in changed)
        note = f"Measured by `dreamenv reproduce {entry.name}` on an earlier bundle than the one shipped now ({short})."
    return {what: content, "note": note}


def study_rows(name: str, figures: str | Path = SHIPPED) -> dict[str, dict[str, Any]]:
    """The rows that docs/exploitation_study.py wrote for a published entry, by name.

    Raises:
        LookupError: No such study is published.
    """
    entry = read_figures(figures).get(name)
    if entry is None or entry.section.runner != "study" or not entry.folder.exists():
        raise LookupError(f"{name!r} is no published study; run dreamenv reproduce, and docs/fill_figures.py")
    (content,) = read_outputs(entry.folder, entry.files).values()
    return dict(content["rows"])


_NUMBER = r"-?\d+(?:,\d{3})*(?:\.\d+)?"
# Returns of whole episodes, with or without their spread, then the temperature; parts of an episode say more
_DREAMED = re.compile(rf"(?:rounds [^:]*: )?({_NUMBER}(?: ± [\d.]+)?(?:, {_NUMBER}(?: ± [\d.]+)?)*)(?: \([\d.]+\))?")
_REAL = re.compile(rf"(?:validation )?({_NUMBER}(?: ± [\d.]+)?(?:, {_NUMBER}(?: ± [\d.]+)?)*)")


def dreamed_and_real(experiments: str) -> list[dict[str, Any]]:
    """The agents in the tables of docs/experiments.md whose dreamed and real return are both known.

    Returns:
        Number of the row, dream (the heading above), and the two returns. A row of several agents, such as the rounds
        of a loop, gives one for each, if it has as many real returns as dreamed ones.
    """
    found = []
    game = ""
    columns: dict[str, int] = {}
    for line in experiments.splitlines():
        if line.startswith("## "):
            game, columns = line.removeprefix("## "), {}
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if cells[:1] == ["no."]:
            # "real" comes before "real frames"
            columns = {name.split(" ")[0]: place for place, name in reversed(list(enumerate(cells)))}
        elif cells and {"real", "dream"} <= columns.keys() and cells[0].isdigit():
            pairs = _pairs(cells[columns["dream"]], cells[columns["real"]])
            found += [{"number": cells[0], "dream": game, "dreamed": pair[0], "real": pair[1]} for pair in pairs]
    return found


def _pairs(dreamed: str, real: str) -> list[tuple[float, float]]:
    """Dreamed and real returns of a row's agents; none where they are not of the same agents."""
    promised, paid = _DREAMED.fullmatch(dreamed), _REAL.match(real.replace("*", ""))
    if promised is None or paid is None:
        return []
    left, right = (_returns(match[1]) for match in (promised, paid))
    return list(zip(left, right, strict=True)) if len(left) == len(right) else []


def _returns(text: str) -> list[float]:
    means = (part.partition(" ±")[0] for part in text.split(", "))
    return [float(mean.replace(",", "")) for mean in means]


def published_agents(figures: str | Path = SHIPPED) -> list[dict[str, Any]]:
    """The published agents that have learned in a shipped dream, and whose dreamed and real return are both stored."""
    found = []
    for entry in read_figures(figures).values():
        parts = entry.published()
        dream, real = parts.get("dream"), parts.get("")
        commands = " ".join(entry.section.commands).split()
        names = [name for name in shipped() if name in commands]
        if dream and real and dream.mean is not None and real.mean is not None and names:
            game = "Doom" if "Doom" in names[0] else "CarRacing"
            found.append({"number": entry.name, "dream": game, "dreamed": dream.mean, "real": real.mean})
    return found


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a bar within a cell is escaped."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)
