"""A Ray cluster: connecting to it, whether its nodes fit together, and the room that it has."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from dreamenv.errors import ConfigurationError, missing_extra
from dreamenv.workers.place import AUTO, RAY, WorkerSettings, cores

# An address answers within these seconds or not at all
_SECONDS_TO_ANSWER = 5.0
_SECONDS_TO_PROBE = 120.0
# What a caller of gRPC says first, and the type of frame that its server says first: the settings of HTTP/2
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS, _FRAME_HEAD = 4, 9
_PORTS = "`ray start --head` prints its address, and its client server (ray://) listens at port 10001"
# What must be equal on all nodes, and what decides the bits of a result
_DECISIVE = ("python", "ray", "dreamenv")
_ROUNDING = ("torch", "numpy", "gymnasium", "processor")

_connected: str | None = None
# Versions of nodes by their ids, which no other node will ever have
_met: dict[str, dict[str, str]] = {}


def connect(address: str) -> Any:
    """The module `ray`, connected to the cluster at `address`; a connection that this process has already is kept.

    Args:
        address: "ray" starts Ray on this machine, "auto" finds what RAY_ADDRESS or `ray start` names; or HOST:PORT or
            ray://HOST:PORT.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigurationError: Nothing answers there, it is of another version, or this process is connected elsewhere.
    """
    global _connected
    try:
        import ray
    except ImportError as error:
        raise missing_extra("ray", "ray") from error
    if ray.is_initialized():
        if address not in (RAY, AUTO, _connected) and address != _gcs_address(ray):
            raise ConfigurationError(
                f"workers={address!r}: this process is connected to the Ray cluster at {_gcs_address(ray)} already"
            )
        return ray
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == RAY:
        options |= {"address": "local", "num_cpus": cores(), "include_dashboard": False}
    else:
        named = os.environ.get("RAY_ADDRESS", AUTO) if address == AUTO else address
        if named != AUTO:
            _check_answer(named)
        options["address"] = named
    _init(ray, address, options)
    _quieten(ray)
    _connected = address
    return ray


def check_nodes(ray: Any, report: Callable[[str], None], checked: frozenset[str] = frozenset()) -> frozenset[str]:
    """Refuse nodes that cannot work together, and report what makes the bits of their results differ.

    Args:
        ray: The module.
        report: Receives a line for each difference that may change last bits.
        checked: Ids of nodes that fit together, as an earlier call found.

    Returns:
        The ids of all nodes that are up; where `checked` has them all, nothing else happens.

    Raises:
        ConfigurationError: Python, Ray or this package is of different versions, or missing; the nodes are named.
    """
    alive = frozenset(node["NodeID"] for node in ray.nodes() if node["Alive"])
    if alive <= checked:
        return alive
    found = {"this process": _make_probe()()} | _probe(ray)
    for what in (*_DECISIVE, *_ROUNDING):
        nodes: dict[str, list[str]] = defaultdict(list)
        for name, versions in found.items():
            nodes[versions[what]].append(name)
        if len(nodes) == 1:
            continue
        differences = "; ".join(f"{what} {version} on {', '.join(held)}" for version, held in sorted(nodes.items()))
        if what in _DECISIVE:
            raise ConfigurationError(
                f"the nodes of the cluster differ: {differences}. Install the same on all of them."
            )
        report(f"the last bits of results may differ between nodes: {differences}")
    return alive


def room(ray: Any, settings: WorkerSettings) -> int:
    """Workers for which the cluster has room when nobody else uses it.

    Raises:
        ConfigurationError: Not even one fits on any node: what is asked for and what there is.
    """
    memory = 0.0 if settings.memory is None else settings.memory * 2**30
    fitting, largest = 0, (0.0, 0.0)
    for node in ray.nodes():
        if node["Alive"]:
            cpus, free = node["Resources"].get("CPU", 0.0), node["Resources"].get("memory", 0.0)
            fitting += int(min(cpus / settings.cpus, free / memory if memory else cpus / settings.cpus))
            largest = max(largest, (cpus, free))
    if not fitting:
        asked = f"{settings.cpus:g} CPU" + (f" and {settings.memory:g} GB" if settings.memory is not None else "")
        raise ConfigurationError(
            f"a worker needs {asked}, and the largest node of the cluster has {largest[0]:g} CPU and "
            f"{largest[1] / 2**30:.1f} GB; ask for less (cpus=, memory=), or add a node"
        )
    return fitting


def _init(ray: Any, address: str, options: dict[str, Any]) -> None:
    # Ray takes SIGTERM for itself; how a command is stopped is the command's to say
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if in_main else None
    try:
        ray.init(**options)
    except (ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
        lines = " ".join(line.strip() for line in str(error).splitlines())
        raise ConfigurationError(
            f"workers={address!r}: no Ray cluster that this process can use: {lines}. {_PORTS}"
        ) from error
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)


def _quieten(ray: Any) -> None:
    """Ray prints a page to stdout whenever a worker or a node dies, `log_to_driver` or not; we say it in a line."""
    ray._private.worker._worker_logs_enabled = False


def _check_answer(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        with socket.create_connection((host, int(port)), _SECONDS_TO_ANSWER) as connection:
            if not _encrypted():
                _greet(connection)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"workers={address!r}: {host}:{port} does not answer ({error}); is the cluster up, and the port right? "
            f"{_PORTS}"
        ) from error


def _encrypted() -> bool:
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


def _greet(connection: socket.socket) -> None:
    """Ray itself waits for minutes for a port at which something else listens, or nobody that still works.

    Raises:
        OSError: What listens there is silent, or speaks another language than Ray.
    """
    connection.sendall(_GREETING)
    answer = b""
    while len(answer) < _FRAME_HEAD:
        more = connection.recv(_FRAME_HEAD - len(answer))
        if not more:
            break
        answer += more
    if len(answer) < _FRAME_HEAD or answer[3] != _SETTINGS:
        raise OSError("something other than Ray listens there")


def _gcs_address(ray: Any) -> str:
    return str(getattr(ray.get_runtime_context(), "gcs_address", "unknown"))


def _probe(ray: Any) -> dict[str, dict[str, str]]:
    """Versions by node; those of nodes that this process has not met are asked for, of all at once.

    A node that leaves meanwhile is not among them.

    Raises:
        ConfigurationError: A node does not answer.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
    task = ray.remote(num_cpus=0, max_retries=0)(_make_probe())
    asked = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)).remote(): node_id
        for node_id in alive
        if node_id not in _met
    }
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=_SECONDS_TO_PROBE) if asked else ([], [])
    if silent:
        raise ConfigurationError(
            f"nodes of the cluster do not answer within {_SECONDS_TO_PROBE:g} s: "
            + ", ".join(_name(alive[asked[answer]]) for answer in silent)
        )
    found = {asked[answer]: _answer(ray, answer) for answer in answered}
    _met.update({node_id: versions for node_id, versions in found.items() if versions is not None})
    return {_name(node): _met[node_id] for node_id, node in alive.items() if node_id in _met}


def _answer(ray: Any, reference: Any) -> dict[str, str] | None:
    try:
        found: dict[str, str] = ray.get(reference)
    except ray.exceptions.RayError:
        return None
    return found


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerHostname']}/{node['NodeID'][:6]}"


def _make_probe() -> Callable[[], dict[str, str]]:
    """A function that needs nothing of this package: where it is missing, that is what is found."""

    def versions() -> dict[str, str]:
        import importlib
        import platform
        from importlib.metadata import distributions

        found = {"python": platform.python_version(), "processor": platform.machine()}
        installed = {package.metadata["Name"]: package.version for package in distributions()}
        found |= {name: installed.get(name, "missing") for name in ("ray", "torch", "numpy", "gymnasium")}
        try:
            found["dreamenv"] = importlib.import_module("dreamenv").__version__
        except ImportError:
            found["dreamenv"] = "missing"
        try:
            with open("/proc/cpuinfo", encoding="utf-8") as lines:
                found["processor"] = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
        except (OSError, StopIteration):
            pass
        return found

    return versions
