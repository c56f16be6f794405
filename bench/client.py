"""A caller with one connection, for measurements of single answers."""

import http.client
import json
from collections.abc import Mapping
from time import perf_counter
from typing import Any
from urllib.parse import urlencode, urlsplit

KEPT_ALIVE = 2.0
"""Seconds for which a silent connection is relied upon."""


class GaveUp(RuntimeError):
    """The service could not answer in time."""


class Client:
    """Asks the service as one caller. Raises RuntimeError for an answer that is not a success:
    GaveUp for a 503."""

    def __init__(self, url: str, key: object) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
        self._headers = {"Authorization": f"Bearer {key}"}
        self._asked_at = perf_counter()
        self.etag: str | None = None
        """Of the last answer."""

    def get(self, path: str, query: Mapping[str, str] | None = None, **headers: str) -> Any:
        """The JSON at the path, or None where it is unchanged."""
        target = f"{path}?{urlencode(query)}" if query else path
        return self._ask("GET", target, None, headers)

    def post(self, path: str, body: bytes, content_type: str) -> Any:
        """What the service answers to the body."""
        return self._ask("POST", path, body, {"Content-Type": content_type})

    def timed(self, path: str, query: Mapping[str, str] | None = None, **headers: str) -> float:
        """Milliseconds from asking to having the whole answer."""
        began = perf_counter()
        self.get(path, query, **headers)
        return (perf_counter() - began) * 1000

    def _ask(self, method: str, target: str, body: bytes | None, more: Mapping[str, str]) -> Any:
        headers = {**self._headers, **{k.replace("_", "-"): v for k, v in more.items()}}
        if perf_counter() - self._asked_at > KEPT_ALIVE:
            self._connection.close()  # and open it again: the server is about to do the first
        self._connection.request(method, target, body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        self._asked_at = perf_counter()
        if answer.status >= 400:
            error = GaveUp if answer.status == 503 else RuntimeError
            raise error(f"{method} {target}: {answer.status} {content.decode()}")
        self.etag = answer.headers.get("ETag")
        return json.loads(content) if content else None
