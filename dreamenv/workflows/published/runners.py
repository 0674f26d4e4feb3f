"""How the figures of an entry are read from what its commands write: one runner for each form of output.

A runner is chosen by its name in the list of figures; `register_runner` adds one. Two read any output, by the entry's
own options: "json" by paths into a file, "printed" by regular expressions over what the commands print.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from dreamenv.kinds import Register
from dreamenv.scoring.score import bootstrap_interval, returns_summary
from dreamenv.workflows.published.figure import Figure, Outputs, figure_from

# What all commands print to standard output, whichever the runner
PRINTED = "printed.txt"


class Options(BaseModel):
    """Options of a runner, from the `read` section of an entry; a runner without options takes this class."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Runner:
    """A form of output.

    Attributes:
        read: Gives the figures by part, from the outputs by file name and the validated options. The part "" is that of
            an entry with one figure.
        files: What is read of the entry's folder, with the options given.
        options: The class of the options.
    """

    read: Callable[[Outputs, Any], dict[str, Figure]]
    files: Callable[[Any], tuple[str, ...]]
    options: type[Options] = Options


class CountOptions(Options):
    """Which episodes are counted: those within all of the given bounds, which are strict."""

    return_above: float | None = None
    return_below: float | None = None
    shorter_than: int | None = None


class EvalOptions(Options):
    """For outputs that hold the single episodes. `counts`: numbers of episodes by name. `share`: the figure is the
    share of the episodes within these bounds, in place of their mean return."""

    counts: dict[str, CountOptions] = Field(default_factory=dict)
    share: CountOptions | None = None


def _read_eval(outputs: Outputs, options: EvalOptions) -> dict[str, Figure]:
    """`dreamenv eval --json {out}/score.json`."""
    return {"": _score(outputs["score.json"], options)}


def _score(score: Mapping[str, Any], options: EvalOptions) -> Figure:
    found = {key: score[key] for key in ("mean", "std", "ci95", "episodes", "real_frames")}
    if "ms_per_decision" in score:
        found["ms_per_decision"] = score["ms_per_decision"]
    if "returns" in score:
        episodes = list(zip(score["returns"], score["lengths"], strict=True))
        for name, wanted in options.counts.items():
            found[name] = sum(_counts(wanted, *episode) for episode in episodes)
        if options.share is not None:
            within = [float(_counts(options.share, *episode)) for episode in episodes]
            found |= {"mean": float(np.mean(within)), "std": None, "ci95": bootstrap_interval(within)}
            found["mean_return"] = score["mean"]
    return figure_from(found)


def _counts(wanted: CountOptions, total: float, length: int) -> bool:
    return (
        (wanted.return_above is None or total > wanted.return_above)
        and (wanted.return_below is None or total < wanted.return_below)
        and (wanted.shorter_than is None or length < wanted.shorter_than)
    )


def _read_loop(outputs: Outputs, options: EvalOptions) -> dict[str, Figure]:
    """`dreamenv loop --json {out}/rounds.json`, and `dreamenv eval` of the agent that it kept."""
    found = {"": _score(outputs["score.json"], options)}
    for row in outputs["rounds.json"]:
        numbers = {"mean": row["real_mean"], "std": row["real_std"]}
        numbers |= {key: row.get(key) for key in ("real_frames", "dream_mean", "collected_return")}
        found[f"round-{row['number']}"] = figure_from(numbers)
    return found


class CurveOptions(Options):
    """`file`, and the key under which it holds the points; `score` is the output of `dreamenv eval --json` of the last
    one's agent, where there is one."""

    file: str
    points: str
    score: str = ""


def _read_curve(outputs: Outputs, options: CurveOptions) -> dict[str, Figure]:
    """Points with `real_steps` and `mean`, such as the epochs of mbpo.json; a score, or else the last of them."""
    content, known = outputs[options.file], ("mean", "std", "ci95", "episodes")
    points = content[options.points]
    rows = [{"real_frames": row["real_steps"]} | {key: row.get(key) for key in known} for row in points]
    score = outputs[options.score] if options.score else content
    last = rows[-1] if "mean" not in score else rows[-1] | {key: score[key] for key in known}
    return {"": figure_from(last)} | {f"point-{number}": figure_from(row) for number, row in enumerate(rows)}


class ScoresOptions(EvalOptions):
    """`parts`: the file of each part, the outputs of `dreamenv eval --json`."""

    parts: dict[str, str]


def _read_scores(outputs: Outputs, options: ScoresOptions) -> dict[str, Figure]:
    """Several `dreamenv eval --json {out}/FILE`, such as of one run's agent after fewer and more real frames."""
    return {part: _score(outputs[file], options) for part, file in options.parts.items()}


def _read_gap(outputs: Outputs, options: Options) -> dict[str, Figure]:
    """`dreamenv gap --json {out}/gap.json`."""
    gap = outputs["gap.json"]
    found = {"dream": _of_returns(gap["dream_returns"]), "real": _of_returns(gap["real_returns"])}
    single = ("predicted_return", "reward_r2", "termination_precision", "termination_recall", "real_ends")
    found |= {_slug(key): Figure(mean=gap[key], episodes=len(gap["seeds"])) for key in single}
    for row in gap["open_loop"]:
        errors = {key: value for key, value in row.items() if key not in ("horizon", "latent_mse")}
        found[f"open-loop-{row['horizon']}"] = figure_from({"mean": row["latent_mse"]} | errors)
    return found


def _of_returns(returns: Sequence[float]) -> Figure:
    return figure_from(returns_summary(returns))


def _read_bench(outputs: Outputs, options: Options) -> dict[str, Figure]:
    """`dreamenv bench --json {out}/bench.json`: a part a row, such as dream-vector-1024; the mean is steps a second."""
    found = {}
    for row in outputs["bench.json"]:
        numbers = {
            "mean": row["steps_per_s"],
            **{key: row[key] for key in ("num_envs", "bound_steps_per_s", "fraction")},
        }
        found[f"{_slug(row['case'])}-{row['num_envs']}"] = figure_from(numbers)
    return found


def _read_temperature(outputs: Outputs, options: Options) -> dict[str, Figure]:
    """`python docs/temperature_sweep.py --json {out}/temperature.json`: a part for each agent and temperature."""
    return {
        f"{row['agent']}-{row['temperature']:g}": figure_from(
            {"mean": row["mean"], "episodes": row["dreams"], "standard_error": row["standard_error"]}
        )
        for row in outputs["temperature.json"]
    }


def _read_study(outputs: Outputs, options: Options) -> dict[str, Figure]:
    """`python docs/exploitation_study.py --json {out}/study.json`: a part for each row; the mean is the real return."""
    found = {}
    for name, row in outputs["study.json"]["rows"].items():
        numbers = {key: row[key] for key in ("mean", "dream_mean", "episodes", "real_frames")}
        numbers |= {"seeds": len(row["seeds"]), "lowest": min(row["real"]), "highest": max(row["real"])}
        if "difference" in row:
            low, high = row["difference_ci95"]
            numbers |= {"difference": row["difference"], "difference_low": low, "difference_high": high}
        found[name] = figure_from(numbers)
    return found


class JsonOptions(Options):
    """`file`, and for each part the numbers by name: where they are in it, as keys and indices joined by dots. "*" is
    the only key there is."""

    file: str
    parts: dict[str, dict[str, str]]


def _read_json(outputs: Outputs, options: JsonOptions) -> dict[str, Figure]:
    content = outputs[options.file]
    return {
        part: figure_from({name: _at(content, path.split(".")) for name, path in numbers.items()})
        for part, numbers in options.parts.items()
    }


def _at(content: Any, path: Sequence[str]) -> Any:
    for key in path:
        if key == "*":
            (content,) = content.values()
        else:
            content = content[int(key) if isinstance(content, list) else key]
    return content


class PrintedOptions(Options):
    """For each part regular expressions over all that is printed; their named groups are its numbers."""

    parts: dict[str, list[str]]

    @field_validator("parts")
    @classmethod
    def _names_numbers(cls, parts: dict[str, list[str]]) -> dict[str, list[str]]:
        for pattern in (pattern for patterns in parts.values() for pattern in patterns):
            if not re.compile(pattern).groupindex:
                raise ValueError(f"{pattern!r} has no named group; expected one such as (?P<mean>[\\d.]+)")
        return parts


def _read_printed(outputs: Outputs, options: PrintedOptions) -> dict[str, Figure]:
    text = outputs[PRINTED]
    return {part: figure_from(dict(_matches(text, patterns))) for part, patterns in options.parts.items()}


def _matches(text: str, patterns: Sequence[str]) -> Iterator[tuple[str, float]]:
    for pattern in patterns:
        match = re.search(pattern, text, re.MULTILINE)
        if match is None:
            raise ValueError(f"nothing that was printed fits {pattern!r}")
        for name, value in match.groupdict().items():
            yield name, float(value.replace(",", ""))


def _slug(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def _always(*files: str) -> Callable[[Options], tuple[str, ...]]:
    return lambda options: files


EVAL = Runner(_read_eval, _always("score.json"), EvalOptions)
LOOP = Runner(_read_loop, _always("rounds.json", "score.json"), EvalOptions)
CURVE = Runner(_read_curve, lambda options: tuple(filter(None, (options.file, options.score))), CurveOptions)
SCORES = Runner(_read_scores, lambda options: tuple(options.parts.values()), ScoresOptions)
GAP = Runner(_read_gap, _always("gap.json"))
BENCH = Runner(_read_bench, _always("bench.json"))
TEMPERATURE = Runner(_read_temperature, _always("temperature.json"))
STUDY = Runner(_read_study, _always("study.json"))
JSON = Runner(_read_json, lambda options: (options.file,), JsonOptions)
PRINTED_LINES = Runner(_read_printed, _always(PRINTED), PrintedOptions)

_SHIPPED = {"eval": "EVAL", "loop": "LOOP", "curve": "CURVE", "scores": "SCORES", "gap": "GAP", "bench": "BENCH"}
_SHIPPED |= {"temperature": "TEMPERATURE", "study": "STUDY", "json": "JSON", "printed": "PRINTED_LINES"}

RUNNERS: Register[Runner] = Register("runner", {name: f"{__name__}:{value}" for name, value in _SHIPPED.items()})


def register_runner(name: str, runner: Runner) -> None:
    """Make a runner known to the lists of figures under `name`; a package may name its own in the entry-point group
    `dreamenv.runner`.

    Raises:
        ConfigurationError: The name is taken.
    """
    RUNNERS.add(name, runner)
