"""The names at the package's top: they are there, lead to what they name, and cost nothing until they are used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import dreamenv
from tests.conftest import RunPython

WORKFLOW = ("collect", "train", "evolve", "train_actor_critic", "evaluate", "dream_gap", "run_loop")


@pytest.mark.parametrize("name", dreamenv.__all__)
def test_every_public_name_leads_to_what_it_names(name: str) -> None:
    found = getattr(dreamenv, name)
    if name != "__version__":
        assert found.__name__ == name
        assert found.__module__.startswith("dreamenv.")
        assert found.__doc__
    assert name in dir(dreamenv)


def test_the_verbs_of_the_workflow_are_public() -> None:
    assert set(WORKFLOW) <= set(dreamenv.__all__)
    assert len(dreamenv.__all__) == len(set(dreamenv.__all__))


def test_the_types_are_shipped() -> None:
    assert (Path(dreamenv.__file__).parent / "py.typed").exists()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'evolv'"):
        dreamenv.evolv  # noqa: B018


def test_names_load_what_they_need_when_they_are_used(run_python: RunPython) -> None:
    code = (
        "import json, sys, dreamenv\n"
        "seen = lambda: [name in sys.modules for name in ('torch', 'dreamenv.agents', 'dreamenv.data.collect')]\n"
        "before, _ = seen(), dreamenv.collect\n"
        "between, _ = seen(), dreamenv.evolve\n"
        "print(json.dumps([before, between, seen()]))\n"
    )
    assert json.loads(run_python("-c", code).stdout) == [
        [False, False, False],
        [False, False, True],
        [True, True, True],
    ]
