"""One document, fetched from where the operator said: a GET, whole or not at all.

As with what is sent (`outbound.sending`): https alone, no redirect is followed, no proxy of the
environment is used, one time limit for all of it, and a limit to what is read. Which addresses the
host has is not asked: whoever sets the URL runs the service, and may well mean a host of their own
network.
"""

import asyncio
import ssl
from typing import Final

import httpcore

from app.domain.errors import UrlRefused
from app.domain.webhook_target import Address, Target, target_of
from app.outbound.addresses import CheckedBackend, resolve
from app.outbound.sending import BROKEN_OFF, host_of, url_of

TIMEOUT: Final = 5.0
"""Seconds for all of it, from the name's resolution to the last byte."""
MOST_BYTES: Final = 256 * 1024


class FetchFailed(Exception):
    """The document could not be had; the message says why."""


class _Chosen(Target):
    """A URL that is none of a tenant's."""

    __slots__ = ()

    def permits(self, address: Address, *, allow_loopback: bool) -> bool:  # noqa: ARG002 - Target's
        return True


async def fetch(url: str, *, timeout: float = TIMEOUT, tls: ssl.SSLContext | None = None) -> bytes:  # noqa: ASYNC109 - one for all of it
    """What an https URL answers. Raises FetchFailed."""
    try:
        parts = target_of(url, allow_loopback=False)
        target = _Chosen(parts.scheme, parts.host, parts.port, parts.path)
        backend = CheckedBackend(target, resolve, allow_loopback=True)
        try:
            async with asyncio.timeout(timeout):
                if tls is None:
                    # It takes a while, so in a thread; certificates change, so anew.
                    tls = await asyncio.to_thread(httpcore.default_ssl_context)
                return await _answer(target, backend, tls)
        finally:
            await backend.aclose()
    except UrlRefused as refused:
        raise FetchFailed(refused.detail) from refused
    except BROKEN_OFF as failed:
        raise FetchFailed(f"{type(failed).__name__} {failed}".strip()) from failed


async def _answer(target: Target, backend: CheckedBackend, tls: ssl.SSLContext) -> bytes:
    url = url_of(target)
    connection = httpcore.AsyncHTTPConnection(url.origin, ssl_context=tls, network_backend=backend)
    headers = [
        ("Host", host_of(target)),
        ("Accept", "application/jwk-set+json, application/json"),
        ("Accept-Encoding", "identity"),
        ("Connection", "close"),
    ]
    read = b""
    async with connection.stream("GET", url, headers=headers) as response:
        if response.status != 200:
            raise FetchFailed(f"the answer's status is {response.status}")
        async for chunk in response.aiter_stream():
            read += chunk
            if len(read) > MOST_BYTES:
                raise FetchFailed(f"the answer has more than {MOST_BYTES:,} bytes")
    return read
