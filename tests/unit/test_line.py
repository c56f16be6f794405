"""Waiting in line: at once where there is a place, else together with whoever waits as well."""

import asyncio
from collections.abc import Sequence

import pytest

from app.domain.errors import DatabaseUnavailable, NotFound
from app.storage import line
from app.storage.line import PLACES, TOGETHER, Line


class Crossing:
    """What goes through a line: texts, each of which is held until it is let go."""

    def __init__(self) -> None:
        self.line: Line[str, str] = Line(self._alone, self._together)
        self.under_way: list[tuple[str, ...]] = []
        self.waited: list[bool] = []
        self.broken: Exception | None = None
        self.outcomes: dict[str, Exception | None] = {}
        self._held = asyncio.Event()

    def send(self, *items: str, name: str | None = None) -> list["asyncio.Task[str]"]:
        """Each goes by the name that is its own, or by the one that is given."""
        return [
            asyncio.ensure_future(self.line.go(item, frozenset([name or item]))) for item in items
        ]

    async def let_go(self) -> None:
        """Let go whoever is under way now; who comes after them is held again."""
        self._held.set()
        self._held = asyncio.Event()
        await settled()

    async def _alone(self, item: str, waited: float) -> str:
        await self._pass((item,), waited)
        return f"{item} alone"

    async def _together(self, items: Sequence[str], waited: float) -> list[str | Exception | None]:
        await self._pass(tuple(items), waited)
        if self.broken is not None:
            raise self.broken
        return [self.outcomes.get(item, f"{item} among {len(items)}") for item in items]

    async def _pass(self, items: tuple[str, ...], waited: float) -> None:
        self.waited.append(waited > 0)
        self.under_way.append(items)
        await self._held.wait()
        self.under_way.remove(items)


async def settled() -> None:
    """Whatever can happen by itself has happened."""
    for _ in range(10):
        await asyncio.sleep(0)


async def filled(crossing: Crossing) -> list["asyncio.Task[str]"]:
    """All places are taken, each by one."""
    first = crossing.send(*(f"first {n}" for n in range(PLACES)))
    await settled()
    assert crossing.under_way == [(f"first {n}",) for n in range(PLACES)]
    return first


async def ended(crossing: Crossing, tasks: Sequence["asyncio.Task[str]"]) -> list[str]:
    for _ in range(5):
        await crossing.let_go()
    assert all(task.done() for task in tasks)
    return [task.result() for task in tasks]


async def test_who_finds_a_place_goes_at_once_and_the_others_together() -> None:
    crossing = Crossing()
    first = await filled(crossing)
    rest = crossing.send("a", "b", "c")
    await settled()
    assert crossing.under_way == [(f"first {n}",) for n in range(PLACES)]
    await crossing.let_go()
    assert crossing.under_way == [("a", "b", "c")]
    assert await ended(crossing, first) == [f"first {n} alone" for n in range(PLACES)]
    assert await ended(crossing, rest) == ["a among 3", "b among 3", "c among 3"]
    assert crossing.waited == [False] * PLACES + [True]


async def test_no_more_go_together_than_may() -> None:
    crossing = Crossing()
    await filled(crossing)
    rest = crossing.send(*(str(n) for n in range(TOGETHER + 1)))
    await settled()
    await crossing.let_go()
    assert crossing.under_way == [tuple(str(n) for n in range(TOGETHER)), (str(TOGETHER),)]
    told = await ended(crossing, rest)
    assert told == [f"{n} among {TOGETHER}" for n in range(TOGETHER)] + [f"{TOGETHER} alone"]


async def test_of_one_name_one_is_under_way_at_a_time_and_holds_up_no_other() -> None:
    crossing = Crossing()
    first, second = crossing.send("one", "two", name="deal")
    await settled()
    other, third = *crossing.send("other"), *crossing.send("three", name="deal")
    await settled()
    assert crossing.under_way == [("one",), ("other",)]
    await crossing.let_go()
    assert crossing.under_way == [("two",)]
    await crossing.let_go()
    assert crossing.under_way == [("three",)]
    told = await ended(crossing, [first, second, other, third])
    assert told == ["one alone", "two alone", "other alone", "three alone"]


async def test_each_is_told_its_own_outcome_and_who_has_none_goes_alone() -> None:
    crossing = Crossing()
    crossing.outcomes = {"b": NotFound("There is none."), "c": None}
    await filled(crossing)
    a, b, c = crossing.send("a", "b", "c")
    await settled()
    await crossing.let_go()
    await crossing.let_go()
    assert a.result() == "a among 3"
    with pytest.raises(NotFound, match=r"There is none\."):
        b.result()
    assert crossing.under_way == [("c",)]
    assert await ended(crossing, [c]) == ["c alone"]
    assert crossing.waited == [False] * PLACES + [True, True]


async def test_what_breaks_them_off_all_are_told_and_the_line_goes_on() -> None:
    crossing = Crossing()
    crossing.broken = DatabaseUnavailable("Away.")
    await filled(crossing)
    rest = crossing.send("a", "b")
    await settled()
    await crossing.let_go()
    await crossing.let_go()
    for task in rest:
        with pytest.raises(DatabaseUnavailable, match=r"Away\."):
            task.result()
    assert await ended(crossing, crossing.send("c")) == ["c alone"]


async def test_who_takes_too_long_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    crossing = Crossing()
    monkeypatch.setattr(line, "PATIENCE", 0)
    slow = crossing.send(*(f"slow {n}" for n in range(PLACES)), "waiting")
    again = crossing.send("again", name="slow 0")
    await settled()
    assert crossing.under_way == [("slow 0",), ("slow 1",), ("waiting", "again")]
    told = await ended(crossing, [*slow, *again])
    assert told == ["slow 0 alone", "slow 1 alone", "waiting among 2", "again among 2"]


async def test_who_waits_in_vain_is_told_so_and_is_not_taken_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crossing = Crossing()
    first = await filled(crossing)
    monkeypatch.setattr(line, "WAIT", 0)
    (waiting,) = crossing.send("waiting")
    with pytest.raises(DatabaseUnavailable, match="waiting already"):
        await asyncio.wait_for(waiting, 10)
    await crossing.let_go()
    assert crossing.under_way == []
    assert await ended(crossing, first) == [f"first {n} alone" for n in range(PLACES)]


async def test_who_has_left_is_not_taken_along() -> None:
    crossing = Crossing()
    await filled(crossing)
    gone, stayed, other = crossing.send("gone", "stayed", "other")
    await settled()
    gone.cancel()
    await crossing.let_go()
    assert crossing.under_way == [("stayed", "other")]
    assert await ended(crossing, [stayed, other]) == ["stayed among 2", "other among 2"]
    assert gone.cancelled()


async def test_who_leaves_on_the_way_changes_nothing_for_the_others() -> None:
    crossing = Crossing()
    await filled(crossing)
    gone, stayed = crossing.send("gone", "stayed")
    await settled()
    await crossing.let_go()
    assert crossing.under_way == [("gone", "stayed")]
    gone.cancel()
    assert await ended(crossing, [stayed]) == ["stayed among 2"]
    assert gone.cancelled()
