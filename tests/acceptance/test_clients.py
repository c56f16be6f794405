"""Clients are generated from the description and do the main job against the running service.

Nothing that is generated is kept: each test makes its client anew in a folder of its own. What the
generators do not take is a fault of the description, so their warnings fail the test.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.http import openapi
from app.main import create_app
from app.settings import load_settings
from tests.acceptance.services import Service
from tests.guide import fence

CLIENTS = Path(__file__).parents[1] / "clients"
SETTINGS = Path(__file__).parents[2] / "docs" / "clients"
NODE = CLIENTS / "node_modules"
PYTHON = CLIENTS / ".venv" / "bin"

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
    pytest.mark.xdist_group("clients"),
]


def ran(folder: Path, *command: str | Path, **environment: str) -> str:
    """Run a command in the folder to its end; gives what it said."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """A folder with the description as /openapi.json gives it, and without webhooks."""
    document = json.loads(openapi.text(create_app(load_settings())))
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    del document["webhooks"]
    (tmp_path / "openapi-client.json").write_text(json.dumps(document))
    return tmp_path


@pytest.mark.skipif(not NODE.exists(), reason="`make clients` found no Node.js")
def test_a_typescript_client_is_strictly_typed_and_does_the_job(
    described: Path, start: Callable[..., Service]
) -> None:
    service = start(SLUICE_JOBS="0")  # the client asks for the scan
    (described / "node_modules").symlink_to(NODE)
    (described / "package.json").write_text('{"type": "module"}')
    shutil.copy(CLIENTS / "walk.ts", described)
    (described / "client.ts").write_text(fence("clients", "ts client"))
    shutil.copy(SETTINGS / "tsconfig.json", described)
    types = ("openapi.json", "--output", "api.d.ts", "--default-non-nullable", "false")
    said = ran(described, NODE / ".bin" / "openapi-typescript", *types)
    assert "warn" not in said.lower(), said
    assert ran(described, NODE / ".bin" / "tsc") == ""
    access = {"BASE": service.url, "KEY": str(service.key)}
    assert ran(described, "node", "walk.js", **access) == "walked\n"


@pytest.mark.skipif(not PYTHON.exists(), reason="`make clients` makes what it needs")
def test_a_python_client_is_generated_without_a_warning_and_does_the_job(
    described: Path, start: Callable[..., Service]
) -> None:
    service = start(SLUICE_JOBS="0")  # the client asks for the scan
    shutil.copy(CLIENTS / "walk.py", described)
    said = ran(
        described,
        PYTHON / "openapi-python-client",
        *("generate", "--path", "openapi-client.json", "--meta", "none", "--fail-on-warning"),
        *("--output-path", "sluice_client", "--config", SETTINGS / "python.yaml"),
    )
    assert "arning" not in said, said
    access = {"BASE": service.url, "KEY": str(service.key)}
    assert ran(described, PYTHON / "python", "-W", "error", "walk.py", **access) == "walked\n"
