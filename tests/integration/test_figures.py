"""What Prometheus is told of pools and scans."""

from datetime import UTC, datetime, timedelta

import httpx
from prometheus_client import CollectorRegistry

from app.domain.access import Principal
from app.jobs.idle_scan import IdleScans, ScanMetrics
from app.storage.engine import Database
from tests.conftest import make_workspace
from tests.factories import keep_pipeline
from tests.idle import open_deals, watched_pipeline
from tests.webhooks import refused

HOUR = timedelta(hours=1)


async def test_the_pools_connections_in_use_are_told_to_who_runs_the_installation(
    client: httpx.AsyncClient, operating: dict[str, str]
) -> None:
    figures = (await client.get("/metrics", headers=operating)).text
    for pool in ("writes", "reads", "reports"):
        assert f'sluice_pool_connections_in_use{{pool="{pool}"}} ' in figures
    assert refused(await client.get("/metrics"))[:2] == (403, "forbidden")


async def test_a_connection_that_is_held_is_counted(database: Database) -> None:
    idle = dict(database.in_use)
    async with database.read(None):
        assert database.in_use["reads"] == idle["reads"] + 1
    assert dict(database.in_use) == idle


async def test_scans_tell_how_late_they_are_and_what_they_found(own_database: str) -> None:
    registry = CollectorRegistry()
    alone = await Database.open(own_database, size=4)
    principal: Principal
    principal, _ = await make_workspace(alone)
    pipeline = await keep_pipeline(alone, principal.workspace_id, watched_pipeline())
    scans = IdleScans(alone, HOUR, ScanMetrics(registry))
    await open_deals(alone, principal, pipeline, 3, datetime.now(UTC) - timedelta(days=8))
    try:
        await scans.next_due(None)
        late = registry.get_sample_value("sluice_idle_scan_lag_seconds")
        assert late is not None
        assert 86_000 < late < 87_000  # due since yesterday, whatever was written of them since
        await scans.scan_all()
        assert registry.get_sample_value("sluice_idle_scan_lag_seconds") == 0
        opened = {"change": "opened"}
        assert registry.get_sample_value("sluice_idle_flags_total", opened) == 3
    finally:
        await alone.close()
