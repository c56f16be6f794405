"""Conditional requests and cursors: what they admit, and everything that they refuse."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.domain.errors import InvalidCursor, Malformed, Stale, VersionRequired
from app.http import conditional
from app.http.cursors import Cursors, next_link


@pytest.mark.parametrize("header", ['"3"', '"2", "3"', '"2","3" , "4"', "*", " * ", ', "3",,'])
def test_a_change_is_admitted_when_if_match_names_the_version(header: str) -> None:
    conditional.required(header)(3)
    conditional.optional(header)(3)


@pytest.mark.parametrize("header", ['"2"', 'W/"3"', '"03"', '"3x"', '""', '"a", W/"3"'])
def test_a_change_is_stale_when_if_match_names_another_or_a_weak_version(header: str) -> None:
    for check in (conditional.required(header), conditional.optional(header)):
        with pytest.raises(Stale):
            check(3)


def test_a_change_without_if_match_is_refused_only_where_it_is_required() -> None:
    conditional.optional(None)(3)
    check = conditional.required(None)  # not yet: a resource that is not there is a 404 first
    with pytest.raises(VersionRequired):
        check(3)


@pytest.mark.parametrize("header", ["3", '"3', '3"', "", '"3" "4"', "*, *", 'w/"3"', '"3";"4"'])
def test_an_unreadable_if_match_is_malformed_at_once(header: str) -> None:
    with pytest.raises(Malformed):
        conditional.required(header)
    with pytest.raises(Malformed):
        conditional.offer(Response(), '"3"', header)


@pytest.mark.parametrize("header", ['"3"', 'W/"3"', '"1", "3"', "*"])
def test_an_answer_that_the_caller_holds_is_a_304_with_its_etag(header: str) -> None:
    with pytest.raises(HTTPException) as stopped:
        conditional.offer(Response(), '"3"', header)
    assert stopped.value.status_code == 304
    assert stopped.value.headers == {"ETag": '"3"'}


@pytest.mark.parametrize("header", [None, '"2"', '"33"'])
def test_an_answer_that_the_caller_lacks_goes_out_with_its_etag(header: str | None) -> None:
    response = Response()
    conditional.offer(response, conditional.opaque("3"), header)
    assert response.headers["ETag"] == '"3"' == conditional.etag(3)


INSTANT = datetime(2026, 3, 1, 9, 30, 0, 123456, tzinfo=UTC)
IDENTITY = UUID("01980000-0000-7000-8000-00000000000a")
ASKED = {"list": "deals", "workspace": IDENTITY, "order": "opened_at", "stage": ["won"], "q": None}
CURSORS = Cursors(b"a secret that all workers share")


def test_a_cursor_gives_back_the_position_it_was_made_of() -> None:
    position = [INSTANT, IDENTITY, 7, "北京", None]
    cursor = CURSORS.encode(position, ASKED)
    assert CURSORS.decode(cursor, dict(reversed(ASKED.items()))) == position
    assert cursor.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize(
    "changed",
    [
        {"list": "pipelines"},
        {"workspace": UUID(int=1)},
        {"order": "-opened_at"},
        {"stage": ["won", "lost"]},
        {"stage": "won"},
        {"q": ""},
        {"extra": 1},
    ],
)
def test_a_cursor_opens_no_list_but_its_own(changed: dict[str, object]) -> None:
    cursor = CURSORS.encode([INSTANT, IDENTITY], ASKED)
    with pytest.raises(InvalidCursor):
        CURSORS.decode(cursor, ASKED | changed)


def test_a_cursor_signed_with_another_secret_is_refused() -> None:
    cursor = Cursors(b"another").encode([1, IDENTITY], ASKED)
    with pytest.raises(InvalidCursor):
        CURSORS.decode(cursor, ASKED)


@given(st.data())
def test_a_cursor_with_any_character_changed_is_refused(data: st.DataObject) -> None:
    cursor = CURSORS.encode([1, IDENTITY], ASKED)
    place = data.draw(st.integers(0, len(cursor) - 1))
    other = data.draw(st.characters().filter(lambda character: character != cursor[place]))
    with pytest.raises(InvalidCursor):
        CURSORS.decode(cursor[:place] + other + cursor[place + 1 :], ASKED)


@given(st.text())
def test_nonsense_is_no_cursor(text: str) -> None:
    with pytest.raises(InvalidCursor):
        CURSORS.decode(text, ASKED)


def test_the_link_to_the_next_page_keeps_the_other_parameters() -> None:
    scope = {
        "type": "http",
        "path": "/v1/deals",
        "query_string": b"stage=won&stage=a%20b&cursor=old&q=%E5%8C%97&empty=",
        "headers": [(b"host", b"sluice.test")],
    }
    link = next_link(Request(scope), "new-1_")
    target = "/v1/deals?stage=won&stage=a+b&q=%E5%8C%97&empty=&cursor=new-1_"
    assert link == f'<{target}>; rel="next"'
