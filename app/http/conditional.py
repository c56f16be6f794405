"""Conditional requests (RFC 9110, section 13): ETags out, If-Match and If-None-Match in.

A version is checked *inside* the transaction that changes it, after the resource was found. So a
route parses the header at once and hands the action a `VersionCheck` to call with the version that
its read brought:

    check = conditional.required(if_match)     # 400 at once when the header is no header
    await amend_opportunity(..., check=check)  # check(deal.version): 428 or 412, after the 404
"""

import re
from typing import Annotated

from fastapi import Header
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.actions.deciding import VersionCheck
from app.domain.errors import Malformed, Stale, VersionRequired

IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        description="The `ETag` of the version that is to be changed, or `*` for any.",
        max_length=1000,
        examples=['"3"'],
    ),
]
IfNoneMatch = Annotated[
    str | None,
    Header(
        alias="If-None-Match",
        description="The `ETag` of the answer already held: 304 when it is still the answer.",
        max_length=1000,
        examples=['"3"'],
    ),
]
IfNoneMatchOfPut = Annotated[
    str | None,
    Header(
        alias="If-None-Match",
        description="`*`: create it, and change nothing if it exists (412).",
        max_length=1000,
        examples=["*"],
    ),
]

# entity-tag, RFC 9110 section 8.8.3; a list may bear empty elements (section 5.6.1).
_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_LIST = re.compile(rf"[ \t,]*{_TAG.pattern}[ \t]*(?:,[ \t]*(?:{_TAG.pattern}[ \t]*)?)*")


def etag(version: int) -> str:
    """The strong entity tag of a resource's version."""
    return f'"{version}"'


def opaque(token: str, *, weak: bool = False) -> str:
    """The entity tag of an answer known by a token of printable ASCII without quotes.

    A weak one says that the answer means the same, though not every byte of it need be equal.
    """
    return f'W/"{token}"' if weak else f'"{token}"'


def required(if_match: str | None) -> VersionCheck:
    """The check of a change that must name a version. Raises Malformed for an unreadable header."""
    if if_match is None:
        return _refuse
    return optional(if_match)


def optional(if_match: str | None) -> VersionCheck:
    """The check of a change that may name a version. Raises Malformed for an unreadable header."""
    if if_match is None or if_match.strip() == "*":
        return _admit
    # Strong comparison: a weak tag never matches.
    strong = {opaque for weak, opaque in _tags("If-Match", if_match) if not weak}

    def check(version: int) -> None:
        if str(version) not in strong:
            raise Stale(
                f"The present version is {etag(version)}, which If-Match does not name."
                " Read the resource again and decide anew."
            )

    return check


def unless_held(if_none_match: str | None, check: VersionCheck) -> VersionCheck:
    """`check`, of a PUT that shall not find what If-None-Match names: `*` is whatever exists.

    Weak comparison. Raises Malformed for an unreadable header.
    """
    if if_none_match is None:
        return check
    _holds(if_none_match, "")  # an unreadable header is refused whether or not there is a resource

    def creating(version: int) -> None:
        if _holds(if_none_match, etag(version)):
            raise Stale(f"It exists, in version {etag(version)}, and If-None-Match rules that out.")
        check(version)

    return creating


def offer(response: Response, tag: str, if_none_match: str | None) -> None:
    """Give the answer its ETag; where the caller already holds that one, stop here with a 304.

    Weak comparison. Raises Malformed for an unreadable header. Call it before the costly part.
    """
    if _holds(if_none_match, tag):
        raise HTTPException(304, headers={"ETag": tag})
    response.headers["ETag"] = tag


def _holds(if_none_match: str | None, tag: str) -> bool:
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    held = {opaque for _, opaque in _tags("If-None-Match", if_none_match)}
    return tag.removeprefix("W/").strip('"') in held


def _tags(header: str, text: str) -> list[tuple[str, str]]:
    if not _LIST.fullmatch(text):
        raise Malformed(f'{header} must be * or a list of quoted entity tags, like "3".')
    return _TAG.findall(text)


def _refuse(version: int) -> None:
    raise VersionRequired(f"Send If-Match: {etag(version)}, the ETag that a read answers, or *.")


def _admit(_version: int) -> None:
    return None
