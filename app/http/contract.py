"""The API's description as it is given out: /openapi.json, and without webhooks for generators.

It is read from the committed file, to which a test holds the code: making it (`http.openapi`) takes
a second, in which a worker would answer nobody, and 20 MB that the worker would not give back.
"""

import json
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from starlette.responses import Response

from app.http import conditional

_APP: Final = Path(__file__).resolve().parent.parent
FILE: Final = next(
    file for file in (_APP.parent / "openapi.json", _APP / "_openapi.json") if file.exists()
)
"""Where the description is: in a checkout beside `app`, in a wheel inside of it."""


def committed() -> dict[str, Any]:
    """The description, as it is committed."""
    document: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return document


def install(app: FastAPI, described: Callable[[], dict[str, Any]] = committed) -> None:
    """Serve what describes the application at /openapi.json and /openapi-client.json."""

    @cache
    def written(*, webhooks: bool) -> tuple[bytes, str]:
        kept = {k: v for k, v in described().items() if webhooks or k != "webhooks"}
        body = json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode()
        return body, conditional.opaque(sha256(body).hexdigest()[:32])

    async def openapi(if_none_match: conditional.IfNoneMatch = None) -> Response:
        return answer(*written(webhooks=True), if_none_match)

    async def openapi_client(if_none_match: conditional.IfNoneMatch = None) -> Response:
        return answer(*written(webhooks=False), if_none_match)

    def answer(body: bytes, tag: str, if_none_match: str | None) -> Response:
        response = Response(body, media_type="application/json")
        conditional.offer(response, tag, if_none_match)
        return response

    app.openapi = described  # type: ignore[method-assign] # FastAPI's documented way to extend it
    app.add_api_route("/openapi.json", openapi, include_in_schema=False)
    app.add_api_route("/openapi-client.json", openapi_client, include_in_schema=False)
