"""A connection that an answer can break off, which ASGI has no word for.

Whoever takes nothing more leaves what was written in a buffer, and to close a connection is to wait
until that is empty.
"""

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

BREAK_OFF: Final = "sluice.break_off"
"""The extension of the scope: a function that ends the connection, whatever it still holds."""


class Connection(HttpToolsProtocol):
    """uvicorn's own, with that extension."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {BREAK_OFF: self.transport.abort}  # type: ignore[dict-item]
