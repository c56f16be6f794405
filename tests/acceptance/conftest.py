"""What the acceptance tests start, and that nothing of it stays."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.services import Service, until


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every account can enter; pytest's own are closed to all but their maker."""
    path = Path(tempfile.mkdtemp(prefix="sluice-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Service]]:
    services: list[Service] = []

    def start(**settings: str) -> Service:
        services.append(Service(folder, **settings))
        until(services[-1].answers)
        return services[-1]

    yield start
    for service in services:
        service.process.kill()
        service.process.communicate()
    until(lambda: not any(service.pids() for service in services))
