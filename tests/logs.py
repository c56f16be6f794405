"""A deal's log as the API shows it, and what makes it a chain."""

from itertools import pairwise
from typing import Any

import httpx


async def whole_log(client: httpx.AsyncClient, deal_id: str) -> list[Any]:
    """Every row of the deal's log in its order, voided ones included."""
    rows: list[Any] = []
    link: str | None = f"/v1/opportunities/{deal_id}/transitions?limit=200"
    while link is not None:
        answer = await client.get(link)
        assert answer.status_code == 200, answer.text
        rows += answer.json()["items"]
        link = answer.links["next"]["url"] if "next" in answer.links else None
    return rows


def assert_is_chain(rows: list[Any]) -> None:
    """Numbers without gaps; each standing row goes on from where and when the last one ended."""
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    standing = [row for row in rows if row["voided"] is None]
    assert (standing[0]["kind"], standing[0]["from_stage"]) == ("opened", None)
    for before, row in pairwise(standing):
        assert row["from_stage"] == before["to_stage"]
        assert row["entered_at"] == before["occurred_at"]
        assert row["occurred_at"] > row["entered_at"]
    assert len({row["id"] for row in rows}) == len(rows)
