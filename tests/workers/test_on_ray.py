"""Workers on a Ray cluster of three nodes on this machine, against workers that are local processes."""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamenv.agents.distillation import distill
from dreamenv.agents.exploration import FACTORIES
from dreamenv.agents.options import DistillationOptions
from dreamenv.agents.population import initial_weights
from dreamenv.agents.resolve import load_agent
from dreamenv.agents.saved import save_agent
from dreamenv.data.collect import collect
from dreamenv.data.explore import Exploration
from dreamenv.errors import CollectionError, ConfigurationError
from dreamenv.scoring.gap import record_agent
from dreamenv.scoring.score import Validator, evaluate
from dreamenv.types import RealEnvSpec
from dreamenv.workers import Parcel, open_workers, run_tasks
from dreamenv.workers import ray_cluster as cluster_module
from tests.agents.test_evolution import evolved, same_run
from tests.own_kinds import PENDULUM, SpyAgent, drawn_model, own_kinds
from tests.workers import own_ray_module as own
from tests.workers.test_workers import is_alive, wait_for, with_package

ray = pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = [pytest.mark.library, pytest.mark.integration, pytest.mark.xdist_group("ray")]

CARTPOLE = RealEnvSpec("CartPole-v1", max_episode_steps=50)


class Nodes:
    """Three nodes of one CPU each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster()
        self._add(head=True)
        self.address: str = self._cluster.address
        self._others = [self._add() for _ in range(2)]
        self._cluster.wait_for_nodes()

    def _add(self, *, head: bool = False, **settings: Any) -> Any:
        """A further node of one CPU; a busy machine may need more than the half a minute that Ray gives it."""
        for last in (False, False, True):
            if head:
                self.port = free_port()
                settings = {"include_dashboard": False, "ray_client_server_port": self.port}
            try:
                return self._cluster.add_node(num_cpus=1, **settings)
            except Exception as error:  # Ray raises no other class
                if last or "timed out during startup" not in str(error):
                    raise

    def kill_one(self) -> None:
        """A node is gone without a word: not the head, and one with an actor where there is such a one."""
        at_work = {parent_of_process(actor) for actor in actors()}
        raylets = [node.all_processes["raylet"][0].process.pid for node in self._others]
        found = next((index for index, raylet in enumerate(raylets) if raylet in at_work), 0)
        self._cluster.remove_node(self._others.pop(found), allow_graceful=False)

    def add_strange(self, package: Path) -> None:
        """A fourth node, which finds another dreamenv in folder `package`."""
        self._strange = self._add(env_vars={"PYTHONPATH": str(package)})

    def remove_strange(self) -> None:
        """Three nodes are left."""
        self._cluster.remove_node(self._strange, allow_graceful=False)

    def complete(self, spare: int = 0) -> None:
        """There are three again, and so many more."""
        while len(self._others) > 2 + spare:
            self.kill_one()
        while len(self._others) < 2 + spare:
            self._others.append(self._add())
        self._cluster.wait_for_nodes()

    def shut_down(self) -> None:
        ray.shutdown()
        self._cluster.shutdown()


def parent_of_process(pid: int) -> int:
    """0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    except OSError:
        return 0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def all_nodes() -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_raylet_start_wait_time_s", "600")  # a busy machine takes longer than Ray waits by default
        patch.delenv("RAY_ADDRESS", raising=False)
        nodes = Nodes()
        yield nodes
        nodes.shut_down()


@pytest.fixture
def nodes(all_nodes: Nodes) -> Nodes:
    all_nodes.complete()
    return all_nodes


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


def test_every_task_gives_one_result_and_own_modules_travel(nodes: Nodes) -> None:
    lines: list[str] = []
    found = list(run_tasks(range(30), own.make_square, 2, workers=nodes.address, report=lines.append))
    assert sorted((task, value) for task, (value, _) in found) == [(n, 2 * n * n) for n in range(30)]
    assert os.getpid() not in {pid for _, (_, pid) in found}
    (line,) = lines
    assert line.startswith("ray: ")
    assert "for each of 30 tasks" in line


def test_tasks_run_on_all_nodes_and_processes_limits_them(nodes: Nodes) -> None:
    for place, expected in ((nodes.address, 3), (f"{nodes.address},processes=2", 2)):
        found = list(run_tasks(range(12), own.make_slow, 0.2, workers=place))
        assert len({pid for _, (_, pid) in found}) == expected


def test_files_travel(nodes: Nodes, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(bytes(range(256)) * 1000)
    ((_, found),) = run_tasks(["weights"], own.make_reader, Parcel.of(tmp_path), workers=nodes.address)
    assert found == bytes(range(256)) * 1000


@pytest.mark.parametrize("zeros", [True, False])
def test_large_results_come_back_and_are_compressed_where_that_helps(nodes: Nodes, zeros: bool) -> None:
    lines: list[str] = []
    found = dict(run_tasks(range(4), own.make_large, zeros, workers=nodes.address, report=lines.append))
    expected = own.make_large(zeros)
    assert all(np.array_equal(found[n], expected(n)) for n in range(4))
    each = int(lines[-1].partition("to and ")[2].split()[0].replace(",", ""))
    assert each < 100_000 if zeros else 10**6 < each < 10**6 + 200


def test_an_error_is_no_death(nodes: Nodes) -> None:
    with pytest.raises(ZeroDivisionError, match="task 4") as raised:
        list(run_tasks([4], own.make_failing, None, workers=nodes.address))
    assert 'raise ZeroDivisionError(f"task {task}")' in str(raised.value.__cause__)


def test_a_killed_actor_takes_its_programs_with_it_and_its_task_is_tried_again(nodes: Nodes, tmp_path: Path) -> None:
    lines: list[str] = []
    found = dict(run_tasks(range(6), own.make_fragile, str(tmp_path), workers=nodes.address, report=lines.append))
    assert found == {n: n for n in range(6)}
    assert [line for line in lines if "at task 1; it is tried again" in line]
    child = int((tmp_path / "died").read_text(encoding="utf-8"))
    assert wait_for(lambda: not is_alive(child))


def test_a_task_that_hangs_is_tried_again(nodes: Nodes, tmp_path: Path) -> None:
    lines: list[str] = []
    place = f"{nodes.address},time_limit=3"
    assert dict(run_tasks(range(4), own.make_hanging, str(tmp_path), workers=place, report=lines.append)) == {
        n: n for n in range(4)
    }
    assert "a worker died (killed after 3 s, the time limit) at task 1; it is tried again" in lines


def test_a_lost_node_and_killed_actors_lose_nothing_and_count_nothing_twice(
    nodes: Nodes, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whenever it is: `ray.kill` of a worker, and the death of one node of the three. A line says so, not a page."""
    generator = random.Random(0)
    lines: list[str] = []
    found: list[int] = []
    with open_workers(own.make_slow, 0.1, workers=nodes.address, report=lines.append) as crew:
        killer = threading.Timer(generator.uniform(0.5, 2.0), nodes.kill_one)
        killer.start()
        for task, _ in crew.results(range(150)):
            found.append(task)
            if generator.random() < 0.05:
                busy = list(crew._busy)  # type: ignore[attr-defined]
                if busy:
                    ray.kill(generator.choice(busy).actor)
        killer.join()
    assert sorted(found) == list(range(150))
    lost = [line for line in lines if "tried again" in line]
    assert len(lost) >= 2
    assert max(map(len, lost)) < 250
    assert "raylet" not in "".join(capfd.readouterr())


def test_results_that_a_node_takes_with_it_are_made_again(nodes: Nodes) -> None:
    """They are large, so that they lie on the node that made them until they are asked for."""
    lines: list[str] = []
    with open_workers(own.make_large, False, workers=nodes.address, report=lines.append) as crew:
        results = crew.results(range(12))
        found = [next(results) for _ in range(3)]
        time.sleep(3)  # the tasks that were given out meanwhile are through, and nobody has asked for them
        nodes.kill_one()
        found += results
    expected = own.make_large(False)
    assert sorted(task for task, _ in found) == list(range(12))
    assert all(value == expected(task) for task, value in found)
    assert [line for line in lines if "tried again" in line]


def test_a_collection_is_that_of_local_workers(nodes: Nodes, tmp_path: Path) -> None:
    found = [
        collect(CARTPOLE, tmp_path / name, frames=400, workers=workers, seed=3, report=lambda line: None)
        for name, workers in (("local", 0), ("ray", nodes.address))
    ]
    assert found[0] == found[1]
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def test_an_agent_explores_with_a_model_that_no_node_has(nodes: Nodes, tmp_path: Path) -> None:
    with own_kinds():
        model = drawn_model()
        model.save(tmp_path / "bundle")
        save_agent(spy(model), tmp_path / "agent")
        seeing = {"world_model": str(tmp_path / "bundle"), "agent": str(tmp_path / "agent")}
        for name, workers in (("local", 0), ("ray", nodes.address)):
            collect(
                PENDULUM, tmp_path / name, explore=[Exploration("agent", 1.0, seeing)], episodes=6, workers=workers,
                factories=FACTORIES, report=lambda line: None,
            )  # fmt: skip
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def spy(model: Any) -> SpyAgent:
    shape = initial_weights(model).shape
    return SpyAgent(np.full(shape, 0.1), model.observation_space(), model.action_space)


def test_scores_and_recorded_episodes_are_those_of_local_workers(nodes: Nodes) -> None:
    with own_kinds():
        model = drawn_model()
        scores = [
            evaluate(model, spy(model), episodes=6, workers=workers, report=lambda line: None)
            for workers in (0, nodes.address)
        ]
        assert scores[0] == scores[1]
        one, other = (
            record_agent(model, spy(model), episodes=3, seed=1, workers=workers, report=lambda line: None)
            for workers in (0, nodes.address)
        )
    assert all(np.array_equal(a.observations, b.observations) for a, b in zip(one, other, strict=True))
    assert [a.undiscounted_return for a in one] == [b.undiscounted_return for b in other]


@pytest.mark.parametrize("optimiser", ["cma", "openai"])
def test_an_evolution_is_that_of_local_workers(nodes: Nodes, tmp_path: Path, optimiser: str) -> None:
    """Its validation runs on the CPUs that the population's workers hold."""
    with own_kinds():
        model = drawn_model()
        runs = [
            evolved(
                model, tmp_path / name, workers=workers, part=3, population=8, rollouts=3, sigma=0.5, generations=4,
                optimiser=optimiser, validate_every=2,
                validate=Validator(model, episodes=4, workers=workers, report=lambda line: None),
            )
            for name, workers in (("local", 0), ("ray", nodes.address))
        ]  # fmt: skip
    same_run(*runs)


def test_a_distillation_is_that_of_local_workers(nodes: Nodes, tmp_path: Path) -> None:
    """The network of the first round goes to the nodes for the second."""
    options = DistillationOptions(rounds=2, decisions=24, dreams=6, part=2, steps=3, batch_size=8, width=8)
    planner = "planner:cem,horizon=2,candidates=4,elites=2,iterations=1"
    with own_kinds():
        model = drawn_model()
        one, other = (
            distill(model, planner, out_dir=tmp_path / name, options=options, workers=workers, report=lambda line: None)
            for name, workers in (("local", 0), ("ray", nodes.address))
        )
    assert one.rounds == other.rounds
    for name in ("decisions.safetensors", "agent.safetensors"):
        assert len({(tmp_path / where / "rounds" / "01" / name).read_bytes() for where in ("local", "ray")}) == 1


def test_a_killed_driver_is_started_again(nodes: Nodes, tmp_path: Path, root: Path) -> None:
    command = [
        sys.executable, "-m", "dreamenv", "collect", "--real", "CartPole-v1", "--episodes", "200", "--seed", "3",
        "--workers", nodes.address, "--out", str(tmp_path / "broken"),
    ]  # fmt: skip
    collect(RealEnvSpec("CartPole-v1"), tmp_path / "whole", episodes=200, workers=0, seed=3)
    episodes = tmp_path / "broken" / "episodes"
    for least in (2, 60):
        with subprocess.Popen(command, env=with_package(root), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as it:
            assert wait_for(lambda least=least: len(list(episodes.glob("0*.h5"))) > least, 600)  # type: ignore[misc]
            it.kill()
    assert len(list(episodes.glob("0*.h5"))) < 200
    subprocess.run(command, env=with_package(root), check=True, capture_output=True)
    assert contents(episodes) == contents(tmp_path / "whole")


FULL_SIZE = {
    "collect": ["collect", "DreamDoom-v0", "--frames", "50000", "--seed", "7"],
    "eval": ["eval", "DreamDoom-v0", "--episodes", "100"],
    "evolve": ["evolve", "DreamDoom-v0", "--generations", "20"],
}


class Runs:
    """Commands of full size, each with a folder for what it leaves."""

    def __init__(self, folder: Path, workers: str, root: Path) -> None:
        self.folder, self._workers = folder, workers
        self._environment = with_package(root) | {"RAY_USAGE_STATS_ENABLED": "0"}
        folder.mkdir(exist_ok=True)

    def start(self, verb: str) -> subprocess.Popen[bytes]:
        """The command, which writes what it prints into a file."""
        where = ["--json", str(self.folder / "eval.json")] if verb == "eval" else ["--out", str(self.folder / verb)]
        command = [sys.executable, "-m", "dreamenv", *FULL_SIZE[verb], *where, "--workers", self._workers]
        with self._printed(verb).open("ab") as printed:
            return subprocess.Popen(command, env=self._environment, stdout=printed, stderr=subprocess.STDOUT)

    def end(self, verb: str, process: subprocess.Popen[bytes]) -> Any:
        """What must be equal of two runs: files and ledger, figures, or weights."""
        status, printed = process.wait(7200), self._printed(verb).read_text(encoding="utf-8")
        assert status == 0, printed[-2000:]
        assert "raylet" not in printed, "Ray's own reports of a death are pages long"
        if verb == "eval":
            figures = json.loads((self.folder / "eval.json").read_bytes())
            return figures["returns"], figures["lengths"], figures["real_frames"]
        folder = self.folder / verb
        if verb == "collect":
            return contents(folder / "episodes"), (folder / "ledger.json").read_bytes()
        return load_agent(folder).tensors()["weights"].numpy().tobytes(), self._generations()

    def wait(self, verb: str, process: subprocess.Popen[bytes], moment: int) -> None:
        """Until it has reached `moment`, or has ended."""
        assert wait_for(lambda: process.poll() is not None or self.reached(verb) >= moment, 7200, every=0.2)

    def reached(self, verb: str) -> int:
        """Episodes collected or generations evolved so far."""
        if verb == "collect":
            return len(list((self.folder / verb / "episodes").glob("0*.h5")))
        return len(self._generations())

    def _generations(self) -> list[dict[str, Any]]:
        file = self.folder / "evolve" / "evolution.json"
        found: list[dict[str, Any]] = json.loads(file.read_bytes())["history"] if file.exists() else []
        return found

    def _printed(self, verb: str) -> Path:
        return self.folder / f"{verb}.txt"


@pytest.fixture(scope="module")
def local_runs(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Callable[[str], Any]:
    """What each command leaves with two local processes, and how far it got; each runs once."""
    runs = Runs(tmp_path_factory.mktemp("local"), "2", root)

    @functools.cache
    def whole(verb: str) -> Any:
        return runs.end(verb, runs.start(verb)), 0 if verb == "eval" else runs.reached(verb)

    return whole


@pytest.mark.slow
@pytest.mark.parametrize("verb", list(FULL_SIZE))
def test_doom_is_that_of_local_workers(
    verb: str, nodes: Nodes, local_runs: Callable[[str], Any], tmp_path: Path, root: Path
) -> None:
    """50,000 frames, 100 episodes and 20 generations: the same bytes, the same figures, the same weights."""
    runs = Runs(tmp_path, nodes.address, root)
    assert runs.end(verb, runs.start(verb)) == local_runs(verb)[0]


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["collect", "evolve"])
def test_ten_kills_at_random_moments(
    verb: str, nodes: Nodes, local_runs: Callable[[str], Any], tmp_path: Path, root: Path
) -> None:
    """Of workers, nodes and the driver, spread over two thirds of a run of full size.

    Nodes that take over are up before: one would take longer to start than the rest of the run.
    """
    generator = random.Random(3)
    whole, size = local_runs(verb)
    nodes.complete(spare=3)
    runs = Runs(tmp_path, f"{nodes.address},processes=3", root)
    kinds = ["worker"] * 4 + ["node"] * 3 + ["driver"] * 3
    generator.shuffle(kinds)
    process = runs.start(verb)
    for moment, kind in zip(sorted(generator.sample(range(size * 2 // 3), 10)), kinds, strict=True):
        runs.wait(verb, process, moment)
        time.sleep(generator.uniform(0.0, 0.5))
        assert process.poll() is None, "it has ended before the tenth"
        if kind == "driver":
            process.kill()
            process.wait()
            process = runs.start(verb)
        elif kind == "node":
            nodes.kill_one()
        else:
            assert wait_for(lambda: kill_an_actor(generator), 600, every=0.2)
    assert runs.end(verb, process) == whole


@pytest.mark.slow
def test_a_score_survives_the_loss_of_workers_and_nodes(
    nodes: Nodes, local_runs: Callable[[str], Any], tmp_path: Path, root: Path
) -> None:
    """A score that is begun again begins anew, so its driver is let live."""
    generator = random.Random(2)
    nodes.complete(spare=1)
    runs = Runs(tmp_path, f"{nodes.address},processes=3", root)
    process = runs.start("eval")
    for kind in ("worker", "node", "worker"):
        assert wait_for(lambda: bool(actors()), 600, every=0.2)
        time.sleep(generator.uniform(0.5, 3.0))
        assert process.poll() is None, "it has ended before the last one"
        if kind == "node":
            nodes.kill_one()
        else:
            assert wait_for(lambda: kill_an_actor(generator), 600, every=0.2)
    assert runs.end("eval", process) == local_runs("eval")[0]


def kill_an_actor(generator: random.Random) -> bool:
    """Whether there was one."""
    found = actors()
    if not found:
        return False
    with suppress(ProcessLookupError):
        os.kill(generator.choice(found), signal.SIGKILL)
        return True
    return False


def actors() -> list[int]:
    """Process ids of this package's actors."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if b"ray::_Actor" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_through_the_client_server(nodes: Nodes, tmp_path: Path, root: Path) -> None:
    """Such a driver may be on a machine that is no node."""
    collect(RealEnvSpec("CartPole-v1"), tmp_path / "local", episodes=8, workers=0)
    subprocess.run(
        [
            sys.executable, "-m", "dreamenv", "collect", "--real", "CartPole-v1", "--episodes", "8",
            "--workers", f"ray://127.0.0.1:{nodes.port}", "--out", str(tmp_path / "ray"),
        ],
        env=with_package(root), check=True, capture_output=True,
    )  # fmt: skip
    assert contents(tmp_path / "ray" / "episodes") == contents(tmp_path / "local")


def test_too_few_resources_are_told(nodes: Nodes) -> None:
    for place, message in (
        ("cpus=2", "a worker needs 2 CPU, and the largest node of the cluster has 1 CPU"),
        ("memory=100000", "a worker needs 1 CPU and 100000 GB, and the largest node"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            list(run_tasks([1], own.make_square, 1, workers=f"{nodes.address},{place}"))


def test_cpus_that_others_hold_are_waited_for_and_told(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamenv.workers.crew._SECONDS_BETWEEN_REPORTS", 0.2)
    monkeypatch.setattr("dreamenv.workers.crew._SECONDS_OF_PATIENCE", 0.5)
    cluster_module.connect(nodes.address)
    held = [ray.remote(num_cpus=1)(Holder).remote() for _ in range(3)]
    ray.get([holder.here.remote() for holder in held])
    lines: list[str] = []
    try:
        with pytest.raises(CollectionError, match="a worker needs 1 CPU; 0 of the cluster's 3 CPUs are free"):
            list(run_tasks([1], own.make_square, 1, workers=nodes.address, report=lines.append))
    finally:
        for holder in held:
            ray.kill(holder)
    assert lines[0].startswith("no worker is ready after 0 s: a worker needs 1 CPU")


class Holder:
    def here(self) -> None:
        """It is."""


def test_a_node_with_another_package_is_named_also_when_it_comes_later(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dreamenv.workers.on_ray._SECONDS_BETWEEN_LOOKS", 0.1)
    (tmp_path / "dreamenv").mkdir()
    (tmp_path / "dreamenv" / "__init__.py").write_text('__version__ = "0.0.7"\n', encoding="utf-8")
    named = r"the nodes of the cluster differ: dreamenv 0\.0\.7 on \S+/\w{6}; "
    with open_workers(own.make_slow, 0.05, workers=nodes.address) as crew:
        results = crew.results(range(2000))
        assert next(results)
        nodes.add_strange(tmp_path)
        try:
            with pytest.raises(ConfigurationError, match=named):
                list(results)
            with pytest.raises(ConfigurationError, match=named):
                list(run_tasks([1], own.make_square, 1, workers=nodes.address))
        finally:
            nodes.remove_strange()
    assert wait_for(lambda: len([node for node in ray.nodes() if node["Alive"]]) == 3)


@pytest.mark.parametrize("what", ["python", "ray", "dreamenv"])
def test_nodes_of_other_versions_are_named(nodes: Nodes, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    probe: Callable[[Any], dict[str, dict[str, str]]] = cluster_module._probe

    def other(given: Any) -> dict[str, dict[str, str]]:
        found = probe(given)
        one = next(iter(found))
        return found | {one: found[one] | {what: "0.0.7"}}

    monkeypatch.setattr(cluster_module, "_probe", other)
    with pytest.raises(ConfigurationError, match=rf"the nodes of the cluster differ: {what} 0\.0\.7 on \S+/\w{{6}}; "):
        list(run_tasks([1], own.make_square, 1, workers=nodes.address))


def test_what_may_change_last_bits_is_reported(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = cluster_module._probe
    monkeypatch.setattr(
        cluster_module, "_probe", lambda given: {n: v | {"torch": "1"} for n, v in probe(given).items()}
    )
    lines: list[str] = []
    list(run_tasks([1], own.make_square, 1, workers=nodes.address, report=lines.append))
    assert lines[0].startswith("the last bits of results may differ between nodes: torch 1 on ")


def test_an_address_that_does_not_answer_is_named_within_seconds(root: Path) -> None:
    assert cluster_module._SECONDS_TO_ANSWER <= 5  # a busy machine takes its time to start Python
    for address in (f"127.0.0.1:{free_port()}", f"ray://127.0.0.1:{free_port()}"):
        ended = subprocess.run(
            [sys.executable, "-m", "dreamenv", "eval", "DreamDoom-v0", "--episodes", "1", "--workers", address],
            env=with_package(root), capture_output=True, text=True,
        )  # fmt: skip
        assert (ended.returncode, ended.stdout) == (2, "")
        assert f"{address.removeprefix('ray://')} does not answer" in ended.stderr
        assert len(ended.stderr.splitlines()) == 1


def test_a_process_is_in_one_cluster(nodes: Nodes) -> None:
    cluster_module.connect(nodes.address)
    assert cluster_module.connect("auto") is ray
    with pytest.raises(ConfigurationError, match=r"is connected to the Ray cluster at \S+ already"):
        cluster_module.connect("10.1.2.3:6379")


def test_no_worker_is_left(nodes: Nodes) -> None:
    list(run_tasks(range(3), own.make_square, 1, workers=nodes.address))
    assert wait_for(lambda: ray.available_resources().get("CPU", 0.0) == 3.0)
