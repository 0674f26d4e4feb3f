"""The demonstration: an agent evolved in the dream, scored in reality beside a random policy, filmed in both."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import NonNegativeFloat

from dreamenv.agents.evolution import evolve
from dreamenv.agents.evolution_state import Generation
from dreamenv.agents.options import EvolutionOptions
from dreamenv.agents.resolve import RANDOM, load_agent
from dreamenv.agents.saved import AGENT_FILE
from dreamenv.bundle import resolve_bundle
from dreamenv.data.preprocess import make_real_env
from dreamenv.errors import BundleError, ConfigurationError, MissingExtraError, missing_extra
from dreamenv.figures.clips import record_dream, record_real
from dreamenv.figures.model import evolution_figure, read_evolution
from dreamenv.figures.report import write_report
from dreamenv.figures.video import side_by_side, write_video
from dreamenv.files import sha256_of, write_json
from dreamenv.run_lock import alone_in
from dreamenv.schema import Strict, read_checked
from dreamenv.scoring.score import EpisodeResult, Validator, evaluate
from dreamenv.types import RealEnvSpec
from dreamenv.workers import AnyWorkers
from dreamenv.workflows.published_scores import published_scores
from dreamenv.world_model import WorldModel

VIDEO_FILE, REPORT_FILE, JSON_FILE, STAGES_FILE = "demo.mp4", "report.html", "report.json", "stages.json"
FORMAT_VERSION = 1
_NEEDED = ("cma", "imageio", "imageio_ffmpeg", "PIL", "matplotlib")

# Called with the stage, what it has reached, its total (None: not known) and how it goes.
Progress = Callable[[str, int, int | None, str], None]


@dataclass(frozen=True)
class DemoOptions:
    """Sizes of a demonstration; the defaults fit two cores.

    Attributes:
        minutes: Of evolution; the generation that is running when they are over is finished.
        episodes: Real episodes of each score.
        seed: Of evolution, scores and video.
        population: Candidates a generation.
        rollouts: Dreams a candidate.
        horizon: Longest dream in actions; None takes the model's limit.
        sigma: Initial step size of the weights.
        validation_episodes: Real episodes that choose the agent; 0 takes the last generation's mean solution, so that
            no real frame is spent on it.
        validate_every: Generations between validations.
        video_steps: Most actions in the video.
    """

    minutes: float = 4.0
    episodes: int = 20
    seed: int = 0
    population: int = 48
    rollouts: int = 24
    horizon: int | None = None
    sigma: float = 0.5
    validation_episodes: int = 0
    validate_every: int = 10
    video_steps: int = 400


@alone_in("out")
def run_demo(
    dream: str | Path,
    out: str | Path,
    options: DemoOptions | None = None,
    *,
    workers: AnyWorkers = None,
    progress: Progress = lambda stage, reached, total, text: None,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Evolve a linear controller from nothing inside a dream, score it on the real environment and show both.

    Writes to `out`: agent/ (see `evolve`), demo.mp4, report.html and report.json, and returns the latter's content.
    The same call continues an interrupted demonstration; stages that are finished are not repeated.

    Args:
        dream: A registered id or a bundle's folder.
        out: Folder.
        options: Sizes; another set of them wants another folder.
        workers: Processes for the scores; 0 plays in this one, None takes one a core. No figure depends on it.
        progress: Called as a stage goes on.
        report: Receives a line when a worker dies.

    Raises:
        BundleError, UnknownDreamError: The world model is not there or not whole.
        MissingExtraError: Something that the demonstration needs is not installed; said before anything is begun.
        ConfigurationError: An option out of range, or `out` holds a demonstration with other options.
    """
    options = options or DemoOptions()
    if options.minutes <= 0 or options.episodes < 1 or options.video_steps < 1 or options.validation_episodes < 0:
        raise ConfigurationError(
            "minutes, episodes and video_steps must be above 0, and validation_episodes at least 0; got "
            f"{options.minutes}, {options.episodes}, {options.video_steps} and {options.validation_episodes}"
        )
    model = _load_model(dream)
    _check_extras(model.real)
    folder = Path(out)
    stages = _Stages(folder, {"dream": str(dream), "options": asdict(options)})

    def evolution() -> dict[str, Any]:
        validator = None
        if options.validation_episodes > 0:
            count = options.validation_episodes
            validator = Validator(model, episodes=count, seed=options.seed, workers=workers, report=report)
        found = evolve(
            model,
            out_dir=folder / "agent",
            options=EvolutionOptions(
                generations=1_000_000,
                population=options.population,
                rollouts=options.rollouts,
                horizon=options.horizon,
                expected=True,
                sigma=options.sigma,
            ),
            seed=options.seed,
            validate=validator,
            validate_every=options.validate_every if validator else 0,
            time_limit=options.minutes * 60,
            progress=lambda record: progress("evolve", record.index, None, _describe(record)),
        )
        last = found.history[-1]
        return {"generations": last.index, "dream_mean": last.dream_mean, "dream_best": last.dream_best}

    def score(name: str) -> dict[str, Any]:
        returns: list[float] = []

        def on_episode(result: EpisodeResult) -> None:
            returns.append(result.undiscounted_return)
            progress(f"score {name}", len(returns), options.episodes, f"mean so far {np.mean(returns):.1f}")

        agent = RANDOM if name == RANDOM else load_agent(folder / "agent")
        found = evaluate(
            model,
            agent,
            episodes=options.episodes,
            seed=options.seed,
            workers=workers,
            progress=on_episode,
            report=report,
        )
        return found.to_json()

    evolved = stages.run("evolve", evolution)
    agent_hash = sha256_of(folder / "agent" / AGENT_FILE)
    scores = {name: stages.run(f"score {name}", partial(score, name), agent_hash) for name in ("agent", RANDOM)}
    progress("video", 0, None, "")
    video = stages.run("video", lambda: _film(model, folder, scores["agent"], options), agent_hash)
    result = {
        "dream": str(dream),
        "real_id": model.real.id,
        "action_repeat": model.real.action_repeat,
        "options": asdict(options),
        "evolution": evolved,
        "scores": scores,
        "published": [asdict(item) for item in published_scores(model.real.id)],
        "video": video,
        "seconds": stages.seconds,
    }
    history = read_evolution(folder / "agent")
    write_report(folder / REPORT_FILE, result, evolution_figure(history), folder / VIDEO_FILE)
    write_json(folder / JSON_FILE, result)
    return result


class _Stage(Strict):
    """A finished stage: what it depended on, how long it took, what it found."""

    key: str
    seconds: NonNegativeFloat
    result: dict[str, Any]


class _Demonstration(Strict):
    """The file of a demonstration's stages."""

    settings: dict[str, Any]
    stages: dict[str, _Stage]


class _Stages:
    """Results of finished stages, in stages.json."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._file = folder / STAGES_FILE
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"format_version": FORMAT_VERSION, **json.loads(json.dumps(settings))}
        self._content: dict[str, Any] = {"settings": settings, "stages": {}}
        if self._file.exists():
            try:
                found = read_checked(_Demonstration, self._file).model_dump()
            except BundleError as error:
                raise BundleError(f"{self._file}: not the stages of a demonstration: {error}; delete it") from error
            there = found["settings"]
            if there != settings:
                raise ConfigurationError(
                    f"{self._file} is of a demonstration with other settings: {there} there, {settings} here. "
                    "Repeat them to continue it, or use another folder."
                )
            self._content = found

    @property
    def seconds(self) -> dict[str, float]:
        """How long each stage took, by its name."""
        return {name: stage["seconds"] for name, stage in self._content["stages"].items()}

    def run(self, name: str, work: Callable[[], dict[str, Any]], key: str = "") -> dict[str, Any]:
        """The result of `work`, or that of an earlier call with the same `key`."""
        stage = self._content["stages"].get(name)
        if stage is None or stage["key"] != key:
            began = time.monotonic()
            result = work()
            stage = {"key": key, "seconds": round(time.monotonic() - began, 1), "result": result}
            self._content["stages"][name] = stage
            write_json(self._file, self._content)
        return dict(stage["result"])


def _load_model(dream: str | Path) -> WorldModel:
    path, _ = resolve_bundle(dream)
    if not (path / "config.json").exists():
        raise BundleError(
            f"{path}: there is no world model of {dream} here (no config.json). Reinstall dreamenv, or train one: "
            f"dreamenv train {dream} --out runs/own, and give its folder runs/own/bundle instead of the id"
        )
    return WorldModel.load(dream)


def _check_extras(real: RealEnvSpec) -> None:
    """All extras that are missing are named at once."""
    missing = [package for package in _NEEDED if importlib.util.find_spec(package) is None]
    try:
        make_real_env(real).close()
    except MissingExtraError as error:
        if missing:
            raise missing_extra(f"{', '.join(missing)} and what {real.id} needs", "real,train") from error
        raise
    if missing:
        raise missing_extra(", ".join(missing), "train")


def _describe(record: Generation) -> str:
    text = f"dream mean {record.dream_mean:.1f}, best {record.dream_best:.1f}"
    if record.validation_mean is not None:
        text += f", real {record.validation_mean.mean:.1f}"
    return text


def _film(model: WorldModel, folder: Path, score: dict[str, Any], options: DemoOptions) -> dict[str, Any]:
    """The agent in the scored episode nearest to the median, beside its dream from the same first frame."""
    returns = np.array(score["returns"])
    seed = score["seeds"][int(np.abs(returns - np.median(returns)).argmin())]
    agent = load_agent(folder / "agent")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the score was taken: other threads round otherwise
    try:
        real = record_real(model, agent, seed=seed, steps=options.video_steps)
        dream = record_dream(
            model, agent, seed=seed, steps=options.video_steps, first_observation=real.first_observation
        )
    finally:
        torch.set_num_threads(threads)
    frames = side_by_side(dream.frames, real.frames, notes=(dream.captions(), real.captions()))
    write_video(folder / VIDEO_FILE, frames, model.real.steps_per_second)
    return {
        "file": VIDEO_FILE,
        "seed": seed,
        "dream_return": dream.undiscounted_return,
        "real_return": real.undiscounted_return,
        "frames": len(frames),
    }
