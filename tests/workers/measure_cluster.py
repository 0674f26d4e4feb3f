"""What a Ray cluster costs, compared with as many local processes: `python -m tests.workers.measure_cluster --help`.

Needs the extras `ray`, `real` and `train`, and a machine that does nothing else. Each call is timed as a whole, its
processes' start included, in turns with the same call on local workers; the cluster is up before.
"""

from __future__ import annotations

import argparse
import json
import logging
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dreamenv import registry
from dreamenv.agents.evolution import evolve
from dreamenv.agents.optimisers import make_optimiser
from dreamenv.agents.options import EvolutionOptions
from dreamenv.agents.population import weight_shape
from dreamenv.data.collect import collect
from dreamenv.data.episodes import EpisodeStore
from dreamenv.data.explore import Exploration
from dreamenv.data.writing import Writing
from dreamenv.scoring.score import evaluate
from dreamenv.workers import run_tasks
from dreamenv.workers.ray_cluster import connect
from dreamenv.world_model import WorldModel
from tests.workers.own_ray_module import make_large, make_square

DREAM = "DreamDoom-v0"
SIZES = (16, 128, 1024)


Call = Callable[[Any, Path, Callable[[str], None], Callable[..., None]], Any]


class _Handler(logging.Handler):
    """`evolve` logs what others report."""

    def __init__(self, report: Callable[[str], None]) -> None:
        super().__init__()
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        self._report(record.getMessage())


class Timed:
    """A call on local workers and on the cluster, in turns."""

    def __init__(self, call: Call, processes: int, pairs: int) -> None:
        self.seconds: dict[str, list[float]] = {"local": [], "ray": []}
        self.working: dict[str, list[float]] = {"local": [], "ray": []}
        self.lines: list[str] = []
        self.results: list[Any] = []
        places = {"local": processes, "ray": f"ray,processes={processes}"}
        for number in range(pairs):
            for name in sorted(places, reverse=bool(number % 2)):
                with tempfile.TemporaryDirectory() as folder:
                    moments = [time.perf_counter()]
                    self.results.append(
                        call(
                            places[name],
                            Path(folder),
                            self.lines.append,
                            lambda *_, moments=moments: moments.append(time.perf_counter()),
                        )
                    )
                    self.seconds[name].append(time.perf_counter() - moments[0])
                    self.working[name].append(moments[-1] - moments[1])
                    print(name, call.__name__, f"{self.seconds[name][-1]:.1f} s", flush=True)

    def to_json(self) -> dict[str, Any]:
        """Median seconds, their ratio pair by pair, and whether all results were equal.

        "working" counts from the first result to the last, without the start of the workers.
        """
        ratios, working = (
            [ray / local for local, ray in zip(found["local"], found["ray"], strict=True)]
            for found in (self.seconds, self.working)
        )
        return {
            "local_s": statistics.median(self.seconds["local"]),
            "ray_s": statistics.median(self.seconds["ray"]),
            "overhead_percent": 100 * (statistics.median(ratios) - 1),
            "working_local_s": statistics.median(self.working["local"]),
            "working_overhead_percent": 100 * (statistics.median(working) - 1),
            "least_percent": 100 * (min(working) - 1),
            "most_percent": 100 * (max(working) - 1),
            "equal": all(result == self.results[0] for result in self.results),
            "pairs": len(ratios),
        } | self._bytes()

    def _bytes(self) -> dict[str, int]:
        """What the pool has reported of the last call on the cluster."""
        line = next(line for line in reversed(self.lines) if line.startswith("ray: "))
        numbers = [int(word.replace(",", "")) for word in line.split() if word.replace(",", "").isdecimal()]
        return dict(zip(("setup_bytes", "task_bytes", "result_bytes", "tasks"), numbers, strict=True))


def measure(processes: int, pairs: int, share: float) -> dict[str, Any]:
    """All figures; `share` scales the work."""
    connect("ray")
    section = registry.find(DREAM).section
    explore = [Exploration(**e.model_dump()) for e in section.explore]
    model = WorldModel.load(DREAM)
    generations = max(3, round(20 * share))

    def collecting(workers: Any, folder: Path, report: Callable[[str], None], tick: Callable[..., None]) -> Any:
        found = collect(
            section.real.spec(),
            folder,
            explore=explore,
            frames=round(50_000 * share),
            workers=workers,
            progress=tick,
            report=report,
        )
        return found, [file.read_bytes() for file in EpisodeStore(folder).files()]

    def scoring(workers: Any, folder: Path, report: Callable[[str], None], tick: Callable[..., None]) -> Any:
        return evaluate(DREAM, episodes=max(2, round(100 * share)), workers=workers, progress=tick, report=report)

    def evolving(workers: Any, folder: Path, report: Callable[[str], None], tick: Callable[..., None]) -> Any:
        options = EvolutionOptions(generations=generations, workers=workers)
        handler = _Handler(report)
        logging.getLogger("dreamenv").addHandler(handler)
        try:
            found = evolve(model, out_dir=folder, options=options, progress=tick)
        finally:
            logging.getLogger("dreamenv").removeHandler(handler)
        return [(record.dream_mean, record.dream_best) for record in found.history], found.agent.weights.tobytes()

    figures: dict[str, Any] = {
        name: Timed(call, processes, pairs).to_json()
        for name, call in (("collect", collecting), ("eval", scoring), ("evolve", evolving))
    }
    figures["evolve"] |= _sent_by_openai_es(model, figures["evolve"]["task_bytes"])
    figures["driver"] = _driver(processes)
    figures["growth"] = _growth(figures, processes)
    return {"processes": processes, "share": share} | figures


def _sent_by_openai_es(model: WorldModel, cma_bytes: int) -> dict[str, int]:
    """Bytes of a generation of 64 candidates in four parts, by optimiser."""
    size = int(np.prod(weight_shape(model)))
    search = make_optimiser("openai", np.zeros(size), population=64, sigma=0.1, seed=0)
    search.ask()
    part = EvolutionOptions().part
    return {
        "cma_generation_bytes": 4 * cma_bytes,
        "openai_generation_bytes": 4 * len(pickle.dumps(search.part(0, part))),
    }


def _driver(processes: int) -> dict[str, float]:
    """Milliseconds of the driver: for a task, a megabyte of a result, writing a megabyte, a part of a population."""
    place = f"ray,processes={processes}"

    def seconds_a_task(make: Any, setup: Any, tasks: int) -> float:
        results = run_tasks(range(tasks + 1), make, setup, workers=place)
        next(iter(results))
        began = time.process_time()
        for _ in results:
            pass
        return (time.process_time() - began) / tasks

    small, large = seconds_a_task(make_square, 1, 2000), seconds_a_task(make_large, False, 60)
    with tempfile.TemporaryDirectory() as folder:
        content = np.random.default_rng(0).bytes(10**6)
        began = time.perf_counter()
        with Writing(EpisodeStore(folder)) as disk:
            for index in range(64):
                disk.put(index, content)
        writing = (time.perf_counter() - began) / 64
        began = time.perf_counter()
        for index in range(16):
            EpisodeStore(folder).put(index, content)
        one_by_one = (time.perf_counter() - began) / 16
    return {
        "task_ms": 1000 * small,
        "megabyte_ms": 1000 * max(0.0, large - small),
        "write_ms": 1000 * writing,
        "write_one_by_one_ms": 1000 * one_by_one,
        "part_ms": 1000 * _seconds_a_part("cma"),
        "openai_part_ms": 1000 * _seconds_a_part("openai"),
    }


def _seconds_a_part(optimiser: str) -> float:
    """What an optimiser needs for each part of a population of 64 parts: to ask, to cut, to be told."""
    part = EvolutionOptions().part
    population = 64 * part
    search = make_optimiser(optimiser, np.zeros(867), population=population, sigma=0.1, seed=0)
    began = time.process_time()
    for _ in range(3):
        search.ask()
        for first in range(0, population, part):
            pickle.dumps(search.part(first, first + part))
        search.tell(np.arange(population, dtype=np.float64))
    return (time.process_time() - began) / 3 / 64


def _growth(figures: dict[str, Any], processes: int) -> dict[str, Any]:
    """Share of its time that the driver is busy, and megabytes a second over its network, by number of workers."""
    driver = figures["driver"]
    found: dict[str, Any] = {}
    for name in ("collect", "eval", "evolve"):
        timed = figures[name]
        parts = 4 if name == "evolve" else 1  # that the first moment has seen: those of a generation, or an episode
        task_s = timed["working_local_s"] * processes / (timed["tasks"] - parts)
        megabytes = (timed["task_bytes"] + timed["result_bytes"]) / 1e6
        ms = driver["task_ms"] + megabytes * driver["megabyte_ms"]
        ms += {"collect": megabytes * driver["write_ms"], "eval": 0.0, "evolve": driver["part_ms"]}[name]
        found[name] = {"task_s": task_s, "driver_ms": ms, "most_workers": round(1000 * task_s / ms)}
        for workers in SIZES:
            found[name][f"busy_{workers}_percent"] = 100 * workers * ms / 1000 / task_s
            found[name][f"megabytes_s_{workers}"] = workers * megabytes / task_s
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.2, help="of 50,000 frames, 100 episodes and 20 generations")
    given = parser.parse_args()
    figures = measure(given.processes, given.pairs, given.share)
    given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
