"""How much a caller may ask for in a time: token buckets in this process, told in `RateLimit`.

A layer right inside of authentication, before anything of the request is looked at. Every request
takes a token from the bucket of its credential and from that of its workspace, or from neither.
Costly questions have buckets of their own, so that a dashboard never stops the moves of deals, nor
these the dashboard. Why in the process and not in the database: docs/decisions/limits.md.

The headers are those of draft-ietf-httpapi-ratelimit-headers-11: `RateLimit-Policy` says what the
limits are, `RateLimit` what is left of them and how long that has to last.
"""

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from time import monotonic_ns
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from app.domain.access import Operator, Principal
from app.domain.errors import RateLimited
from app.http.buckets import Buckets
from app.http.guard import Refusals

# Before routing there is only the request's line to tell them by.
COSTLY: Final = (
    "[A-Z]+ /v1/pipelines/[^/]+/metrics/.+",
    "POST /v1/pipelines/[^/]+/idle/preview",
    "GET /v1/pipelines/[^/]+/idle/suggestions",
    "POST /v1/pipelines/[^/]+/imports",
    "POST /v1/transitions/batch",
    "POST /v1/idle-scans",
    "GET /v1/digest",
    "GET /v1/audit-log/export",
)
"""Method and path of the costly questions, each a regular expression."""
_COSTLY: Final = re.compile("|".join(COSTLY))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Requests a second of each kind, 0 for any number; what comes in `burst` seconds may come at
    once.
    """

    key: float
    workspace: float
    costly_key: float
    costly_workspace: float
    burst: float


class Limit:
    """One limit that has a name, and the buckets of all whom it is for."""

    def __init__(self, name: str, whose: str, rate: float, burst: float) -> None:
        self.name = name
        self.buckets = Buckets(rate, burst)
        self.policy = f'"{name}";q={self.buckets.size};w={self.buckets.window}'
        self.reason = (
            f'The limit "{name}" is used up: {rate:g} a second with this {whose},'
            f" {self.buckets.size} at once."
        )


class RateLimits:
    """Lets a request through that its caller may still send, or raises RateLimited."""

    def __init__(
        self,
        app: ASGIApp,
        rates: Rates,
        refusals: Refusals,
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._app = app
        self._refusals = refusals
        self._clock = clock
        # Each the limit of the credential, and that of the workspace.
        self._usual = (
            _limit("key", "credential", rates.key, rates.burst),
            _limit("workspace", "workspace", rates.workspace, rates.burst),
        )
        self._costly = (
            _limit("costly-key", "credential", rates.costly_key, rates.burst),
            _limit("costly-workspace", "workspace", rates.costly_workspace, rates.burst),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            caller = scope["state"].get("caller")  # nobody, where anyone may ask
            if caller is not None:
                self._admit(scope, caller)
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope, caller: Principal | Operator) -> None:
        kind = self._costly if is_costly(scope["method"], scope["path"]) else self._usual
        limits = [
            (limit, name)
            for limit, name in zip(kind, _names(caller), strict=False)  # an operator has one name
            if limit is not None
        ]
        now = self._clock()
        empty = [each for each in limits if not each[0].buckets.left(each[1], now)]
        if not empty:
            for limit, name in limits:
                limit.buckets.take(name, now)
        if limits:
            scope["state"]["limits"] = _headers(limits, now)
        if empty:
            self._refusals.count(empty[0][0].name)
            wait = max(limit.buckets.wait(name, now) for limit, name in empty)
            raise RateLimited(empty[0][0].reason, wait=wait)


class WrongKeys:
    """How many wrong keys and tokens are taken from one client address.

    Asked before the look-up of a key and told of its failure after it, so that nobody is refused
    who did no wrong; look-ups under way at once are bounded by the guard and the pool. A token is
    verified first: a right one is refused to nobody.
    """

    def __init__(
        self,
        rate: float,
        burst: float,
        refusals: Refusals,
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._limit = _limit("wrong-keys", "client address", rate, burst)
        self._refusals = refusals
        self._clock = clock

    def check(self, scope: Scope) -> None:
        """Raises RateLimited for an address that has sent too many."""
        if self._limit is None:
            return
        address, now = _address(scope), self._clock()
        if not self._limit.buckets.left(address, now):
            self._refusals.count(self._limit.name)
            wait = self._limit.buckets.wait(address, now)
            raise RateLimited(
                "Too many API keys and tokens that are wrong, revoked or expired came from this"
                " address; keys that were good a moment ago are not held up.",
                wait=wait,
            )

    def count(self, scope: Scope) -> None:
        if self._limit is not None:
            address, now = _address(scope), self._clock()
            if self._limit.buckets.left(address, now):
                self._limit.buckets.take(address, now)


def is_costly(method: str, path: str) -> bool:
    """Whether such requests draw on the buckets of costly ones."""
    return _COSTLY.fullmatch(f"{method} {path}") is not None


def _limit(name: str, whose: str, rate: float, burst: float) -> Limit | None:
    return Limit(name, whose, rate, burst) if rate else None


def _names(caller: Principal | Operator) -> tuple[Hashable, ...]:
    """Whose buckets they are: of the credential, and of the workspace where there is one."""
    if isinstance(caller, Operator):
        return (caller.key_id,)
    workspace = caller.workspace_id.int  # as a name much faster than the UUID
    # Another service vouches for who has no key here: its tokens change, its subjects do not.
    return (caller.key_id or (workspace, caller.subject), workspace)


def _address(scope: Scope) -> str:
    """Where a request comes from; of IPv6 the network, of which one client has every address."""
    client = scope.get("client")
    host = str(client[0]) if client else ""
    if ":" not in host:
        return host
    try:
        return str(IPv6Address(int(IPv6Address(host)) >> 64 << 64))
    except ValueError:
        return host


def _headers(limits: Sequence[tuple[Limit, Hashable]], now: int) -> tuple[tuple[bytes, bytes], ...]:
    left = ", ".join(
        f'"{limit.name}";r={limit.buckets.left(name, now)};t={limit.buckets.wait(name, now)}'
        for limit, name in limits
    )
    policies = ", ".join(limit.policy for limit, _ in limits)
    return ((b"ratelimit", left.encode()), (b"ratelimit-policy", policies.encode()))
