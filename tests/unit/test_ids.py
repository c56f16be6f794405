"""Keys of rows sort by the order in which they were made."""

from datetime import UTC, datetime, timedelta

from app.storage.ids import new_id


def test_every_id_sorts_behind_those_made_before() -> None:
    made = [new_id() for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_an_id_tells_when_it_was_made() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    made = new_id()
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    told = datetime.fromtimestamp((made.int >> 80) / 1000, UTC)
    assert before <= told <= datetime.now(UTC)
