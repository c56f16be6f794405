"""The one composition root: settings in, application out."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from app.domain.access import RowScope
from app.http import contract, docs, middleware, problems
from app.http.authentication import Authentication
from app.http.broadcast import Broadcast
from app.http.claims import ClaimNames
from app.http.guard import MOST_CONNECTIONS, Guard, Places, Refusals, most_connections
from app.http.limits import RateLimits, Rates, WrongKeys
from app.http.routes import (
    access,
    activities,
    audit_log,
    definitions,
    digest,
    events,
    follow_ups,
    idle,
    idle_planning,
    imports,
    metric_curves,
    metric_deals,
    metric_flow,
    metric_series,
    metric_worth,
    metrics,
    opportunities,
    pipelines,
    system,
    templates,
    timeline,
    transitions,
    webhooks,
)
from app.jobs.deliver_webhooks import WebhookMetrics, delivering
from app.jobs.idle_scan import ScanMetrics
from app.jobs.scheduler import scheduled
from app.outbound.fetching import fetch
from app.outbound.sending import Outbound
from app.settings import Settings
from app.storage.engine import Database
from app.storage.prepared import Prepared

if TYPE_CHECKING:
    from app.http.tokens import Tokens

# Routes are tried in this order: the most frequent requests, moves and figures, first.
ROUTERS = (
    transitions.router,
    metrics.router,
    opportunities.router,
    pipelines.router,
    templates.router,
    activities.router,
    timeline.router,
    follow_ups.router,
    digest.router,
    imports.router,
    metric_curves.router,
    metric_deals.router,
    metric_flow.router,
    metric_worth.router,
    metric_series.router,
    definitions.router,
    idle.router,
    idle_planning.router,
    idle_planning.attended,
    events.router,
    webhooks.router,
    access.router,
    audit_log.router,
    system.router,
)

TAGS = [
    {"name": "pipelines", "description": "Sales processes: stages, their order, their rules."},
    {"name": "opportunities", "description": "Deals: what they are and where they stand."},
    {"name": "transitions", "description": "Moves, and the log that keeps them."},
    {"name": "activities", "description": "Calls, mails, meetings: what was done for a deal."},
    {"name": "imports", "description": "History from elsewhere."},
    {"name": "metrics", "description": "Conversion, time and outcome, exactly defined."},
    {"name": "idle", "description": "Deals that have gone quiet."},
    {"name": "events", "description": "What other systems are told, in order."},
    {"name": "webhooks", "description": "Receivers that are told, and what they were sent."},
    {"name": "access", "description": "Who one is, and what one may do."},
    {"name": "system", "description": "Health and figures of the service."},
]


def create_app(settings: Settings, prepared: Prepared | None = None) -> FastAPI:
    """The application; its lifespan holds the database's pools and the scheduler.

    It asks nothing of a database that is not `prepared`; None: all are.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, float]]:
        assert settings.database_url is not None, "serve resolves where the database is"
        app.state.database = await Database.open(
            settings.database_url,
            read_url=settings.database_read_url,
            size=settings.pool_size,
            prepared=prepared,
        )
        try:
            app.state.broadcast = broadcast = Broadcast(
                app.state.database,
                heartbeat=settings.stream_heartbeat.total_seconds(),
                lifetime=settings.stream_lifetime.total_seconds(),
            )
            async with (
                app.state.database.notices.sent_and_heard(),
                broadcast.running(),
                scheduled(app.state.database, settings.idle_scan_interval, scan_metrics)
                if settings.jobs
                else nullcontext(),
                delivering(app.state.database, app.state.outbound, webhook_metrics)
                if settings.webhooks
                else nullcontext(),
            ):
                most = most_connections(settings.requests_at_once, settings.streams_at_once)
                yield {MOST_CONNECTIONS: most}
                leave(app)
        finally:
            if app.state.tokens is not None:
                await app.state.tokens.keys.close()
            await app.state.database.close()

    app = FastAPI(
        title="Sluice",
        version="0.1.0",
        summary="The sales-funnel engine that other software calls.",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a wrong path is a problem, not a detour
        openapi_tags=TAGS,
    )
    app.state.leaving = False
    app.state.registry = CollectorRegistry()
    app.state.outbound = Outbound(allow_loopback=settings.webhooks_allow_loopback)
    app.state.tokens = _tokens(settings)
    webhook_metrics = WebhookMetrics(app.state.registry)
    scan_metrics = ScanMetrics(app.state.registry)
    app.state.registry.register(_Pools(app))
    _add_limits(app, settings)
    middleware.install(app, middleware.RequestMetrics(app.state.registry), settings.cors_origins)
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    contract.install(app)
    docs.install(app)
    return app


def _add_limits(app: FastAPI, settings: Settings) -> None:
    """The layers that hold requests off, each inside of the one that is added after it."""
    refusals = Refusals(app.state.registry)
    burst = settings.rate_limit_burst.total_seconds()
    rates = Rates(
        key=settings.rate_limit_key,
        workspace=settings.rate_limit_workspace,
        costly_key=settings.rate_limit_costly_key,
        costly_workspace=settings.rate_limit_costly_workspace,
        burst=burst,
    )
    wrong_keys = WrongKeys(settings.rate_limit_wrong_keys, burst, refusals)
    places = Places(
        app.state.registry,
        refusals,
        requests=settings.requests_at_once,
        streams=settings.streams_at_once,
    )
    app.add_middleware(RateLimits, rates=rates, refusals=refusals)
    app.add_middleware(Authentication, wrong_keys=wrong_keys)
    app.add_middleware(Guard, places=places)


class _Pools(Collector):
    """How many connections of each of the worker's pools are in use, of `SLUICE_POOL_SIZE`."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def collect(self) -> Iterator[GaugeMetricFamily]:
        told = GaugeMetricFamily(
            "sluice_pool_connections_in_use",
            "Database connections that are in use, by pool.",
            labels=["pool"],
        )
        database: Database | None = getattr(self._app.state, "database", None)
        for pool, used in () if database is None else database.in_use.items():
            told.add_metric([pool], used)
        yield told


def leave(app: FastAPI) -> None:
    """Begin to leave, while requests are still answered: not ready any more, and streams end.

    Without it they would go on until the server breaks them off.
    """
    app.state.leaving = True
    if (broadcast := getattr(app.state, "broadcast", None)) is not None:  # it has started
        broadcast.leave()


def _tokens(settings: Settings) -> "Tokens | None":
    """What verifies the tokens of the issuer that is configured, if one is."""
    issuer, audience, location = settings.jwt_issuer, settings.jwt_audience, settings.jwt_jwks
    if issuer is None or audience is None or location is None:  # all three or none
        return None
    # Cryptography takes 10 MB, which a worker that takes no tokens need not have.
    from app.http.issuer_keys import FRESH_OF_FILE, IssuerKeys, read_file  # noqa: PLC0415
    from app.http.tokens import Tokens  # noqa: PLC0415

    if location.startswith("https://"):
        keys = IssuerKeys(partial(fetch, location))
    else:
        keys = IssuerKeys(partial(read_file, Path(location)), fresh=FRESH_OF_FILE)
    return Tokens(
        keys,
        issuer=issuer,
        audience=audience,
        algorithms=settings.jwt_algorithms,
        leeway=settings.jwt_leeway.total_seconds(),
        names=ClaimNames(
            workspace=settings.jwt_workspace_claim,
            subject=settings.jwt_subject_claim,
            team=settings.jwt_team_claim,
            row_scope=settings.jwt_row_scope_claim,
            scopes=settings.jwt_scopes_claim,
            rows=RowScope(settings.jwt_default_row_scope),
        ),
    )
