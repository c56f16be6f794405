"""What the acceptance tests start, and that nothing of it stays; the real files, imported."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.real_past import (
    Asking,
    as_csv,
    imported,
    maven_deals,
    sepsis_events,
    until_released,
)
from tests.acceptance.services import Service, until
from tests.acceptance.test_real_data_import import (
    MAVEN_MAPPING,
    PLACED,
    SEPSIS_MAPPING,
    maven_pipeline,
    sepsis_pipeline,
)


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


@pytest.fixture(scope="module")
async def maven() -> AsyncIterator[Asking]:
    """A sales organisation's deals, with the office and the manager of their agent."""
    attributes = {**MAVEN_MAPPING["facts"]["attributes"], "manager": "manager"}
    facts = {**MAVEN_MAPPING["facts"], "team": "region", "attributes": attributes}
    mapping = {**MAVEN_MAPPING, "facts": facts, "undated": PLACED}
    async with imported(maven_pipeline(), as_csv(maven_deals()), mapping) as asking:
        yield asking


@pytest.fixture(scope="module")
async def sepsis() -> AsyncIterator[Asking]:
    """A hospital's process log."""
    async with imported(sepsis_pipeline(), as_csv(sepsis_events()), SEPSIS_MAPPING) as asking:
        yield asking


@pytest.fixture(scope="module")
async def released() -> AsyncIterator[Asking]:
    """The same log as one keeps it who looks no further than a case's first release."""
    content = as_csv(until_released(sepsis_events()))
    async with imported(sepsis_pipeline(), content, SEPSIS_MAPPING) as asking:
        yield asking
