"""The tour in the README runs as it stands, against a service started the way the README says."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.services import Service

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
]

README = Path(__file__).parents[2] / "README.md"


def test_the_tour_runs_and_shows_what_it_promises(start: Callable[..., Service]) -> None:
    service = start()
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
    script = "\n".join(blocks).replace("BASE=http://127.0.0.1:8000", f"BASE={service.url}")
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={**os.environ, "KEY": str(service.key)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert '"kind":"advanced"' in ran.stdout
    assert '"flagged":1' in ran.stdout
    assert '"opportunity.transitioned"' in ran.stdout
