"""The service is attacked by its own description: schemathesis, every check, for a bounded time.

`make fuzz` does the same for as long as one likes. What a description cannot say stands in
tests/clients/schemathesis.toml, each with its reason.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.services import Service

CLIENTS = Path(__file__).parents[1] / "clients"
SCHEMATHESIS = CLIENTS / ".venv" / "bin" / "schemathesis"
SECONDS = 60

pytestmark = [
    pytest.mark.skipif(not SCHEMATHESIS.exists(), reason="`make clients` installs schemathesis"),
    pytest.mark.xdist_group("clients"),
]


def test_no_request_that_can_be_made_of_the_description_breaks_the_contract(
    start: Callable[..., Service], tmp_path: Path
) -> None:
    attacked = start(SLUICE_DEMO="1", SLUICE_WEBHOOKS="0", SLUICE_LOG_LEVEL="warning")
    ended = subprocess.run(
        [
            *(SCHEMATHESIS, "--config-file", CLIENTS / "schemathesis.toml", "run"),
            *("--header", f"Authorization: Bearer {attacked.key}", "--checks", "all"),
            *("--max-time", str(SECONDS), "--seed", "1", "--continue-on-failure", "--no-color"),
            f"{attacked.url}/openapi-client.json",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=10 * SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-20_000:]
    assert "Tested: " in ended.stdout
