"""Where tasks run."""

from __future__ import annotations

import pytest

from dreamenv.errors import ConfigurationError
from dreamenv.workers import Place, find_place, parse_workers
from dreamenv.workers.place import WorkerSettings


def test_a_number_is_processes_of_this_machine() -> None:
    assert find_place(0) == Place(None, 0)
    assert find_place(0).here
    assert find_place(3, 2) == Place(None, 2)
    limited = find_place("3,time_limit=60", 2)
    assert limited == Place(None, 2, WorkerSettings(time_limit=60.0))
    assert not limited.here
    assert not limited.elsewhere


@pytest.mark.parametrize("address", ["ray", "auto", "head:6379", "10.0.0.7:6379", "ray://head.example:10001"])
def test_an_address_is_a_cluster(address: str) -> None:
    place = find_place(address)
    assert (place.address, place.processes, place.here, place.elsewhere) == (address, None, False, True)
    several = find_place(f"{address},processes=8,cpus=0.5,memory=2,time_limit=900", 100)
    assert several == Place(address, 8, WorkerSettings(8, 0.5, 2.0, 900.0))
    assert find_place(f"{address},processes=8", 3).processes == 3


@pytest.mark.parametrize(
    ("workers", "message"),
    [
        ("many", 'expected a number of processes, "ray", "auto"'),
        ("ray://head", "is not understood"),
        ("head", "is not understood"),
        ("ray,cpu=2", "workers ray.cpu: unknown option. Did you mean cpus"),
        ("ray,processes=0", "processes must be at least 1, got 0"),
        ("auto,time_limit=-1", "time_limit must be above 0, got -1"),
        ("ray,cpus=nan", "cpus must be above 0, got nan"),
        ("2,processes=3", "the number of processes is given twice"),
        ("-1", "workers must be at least 0"),
        ("", "is not understood"),
    ],
)
def test_what_is_no_place_is_refused(workers: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_workers(workers)


def test_the_command_line_reads_a_number_or_a_place() -> None:
    assert parse_workers("4") == 4
    assert parse_workers("auto,processes=2") == "auto,processes=2"
