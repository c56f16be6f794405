"""One page of a list: where it begins, and where the next one does.

A route asks its query for one row more than the page holds; whether that row is there decides
whether there is a next page, without counting anything.

    listing = pages.of(query, list="deals", workspace=workspace, **query.asked())
    found = await deals(connection, …, after=listing.first, limit=listing.more)
    found, page = listing.cut(found, lambda deal: [deal.deal_id])
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Depends, Request, Response

from app.http.cursors import Cursors, Scalar, next_link
from app.http.deps import CursorsDep
from app.http.schemas.common import PageInfo

T = TypeVar("T")


class Paged(Protocol):
    """Query parameters of a list."""

    @property
    def limit(self) -> int: ...
    @property
    def cursor(self) -> str | None: ...


class Listing:
    """A page that was asked for. `position` is where the page before it ended; None: the first."""

    def __init__(self, pages: "Pages", limit: int, position: Any, asked: dict[str, Any]) -> None:
        self.position = position
        self.more = limit + 1
        self._pages = pages
        self._asked = asked

    @property
    def first(self) -> Any:
        """The position in a list that is ordered by one key."""
        return None if self.position is None else self.position[0]

    @property
    def pair(self) -> Any:
        """The position in a list that is ordered by a key and an id."""
        return None if self.position is None else tuple(self.position)

    def cut(self, found: list[T], key: Callable[[T], Sequence[Scalar]]) -> tuple[list[T], PageInfo]:
        """The rows of the page and its `page`; tells of the next one by `Link` too."""
        if len(found) < self.more:
            return found, PageInfo(next_cursor=None)
        kept = found[: self.more - 1]
        cursor = self._pages.cursors.encode(key(kept[-1]), self._asked)
        self._pages.response.headers["Link"] = next_link(self._pages.request, cursor)
        return kept, PageInfo(next_cursor=cursor)


class Pages:
    """What listing takes from the request at hand."""

    def __init__(self, request: Request, response: Response, cursors: Cursors) -> None:
        self.request = request
        self.response = response
        self.cursors = cursors

    def of(self, query: Paged, **asked: Any) -> Listing:
        """The page that `query` asks for of the list that `asked` describes.

        Raises InvalidCursor for the cursor of another list.
        """
        position = self.cursors.decode(query.cursor, asked) if query.cursor else None
        return Listing(self, query.limit, position, asked)


async def _pages(request: Request, response: Response, cursors: CursorsDep) -> Pages:
    return Pages(request, response, cursors)


PagesDep = Annotated[Pages, Depends(_pages)]
