"""`dreamenv serve` from outside."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.command_line import call
from tests.fakes import trained_like_world_model, write_registry


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_it_prints_its_address_answers_and_leaves_on_ctrl_c(times: int, tmp_path: Path, root: Path) -> None:
    registry = write_registry(tmp_path, "DreamServed-v0", trained_like_world_model())
    command = [sys.executable, "-m", "dreamenv", "serve", "DreamServed-v0", "--port", "0"]
    environment = os.environ | {"DREAMENV_REGISTRY": str(registry), "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        found = re.fullmatch(r"DreamServed-v0 at (http://127\.0\.0\.1:\d+/)\n", line)
        assert found is not None, line
        assert server.stdout.readline() == "Ctrl-C ends it.\n"
        with urllib.request.urlopen(f"{found[1]}health", timeout=60) as answer:
            assert answer.status == 200
            assert json.load(answer)["id"] == "DreamServed-v0"
        for _ in range(times):
            server.send_signal(signal.SIGINT)
            time.sleep(0.02)
        _, errors = server.communicate(timeout=120)
        assert (server.returncode, errors) == (0, "")
    finally:
        server.kill()


def test_a_vector_dream_is_refused(tmp_path: Path) -> None:
    import dreamenv
    from dreamenv.errors import ConfigurationError

    dreamenv.register(write_registry(tmp_path, "DreamServed-v0", trained_like_world_model(image=False)))
    with pytest.raises(ConfigurationError, match="vector observations"):
        call("serve", "DreamServed-v0", "--port", "0")


def test_the_page_is_opened_if_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dreamenv

    dreamenv.register(write_registry(tmp_path, "DreamServed-v0", trained_like_world_model()))
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: bool(opened.append(address)))
    monkeypatch.setattr("dreamenv.serve.server.DreamServer.run", lambda server: server._listener.close())
    shown = call("serve", "DreamServed-v0", "--port", "0", "--open").stdout.splitlines()
    assert shown[0] == f"DreamServed-v0 at {opened[0]}"
    assert shown[-1].startswith("no browser can be opened here")
    call("serve", "DreamServed-v0", "--port", "0")
    assert len(opened) == 1
