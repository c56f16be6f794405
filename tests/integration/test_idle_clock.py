"""What a changed definition does to many deals at once is what the domain says of each of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain import journey
from app.domain.access import Principal
from app.domain.idleness import Holds, IdleState, crossing, idle_state
from app.domain.journey import Facts, Position, Status, Transition, TransitionKind
from app.domain.opportunity import Opportunity
from app.domain.period import Period
from app.domain.pipeline import Flow, IdleClock, IdleRule, LossReason, Pipeline, Stage, StageKind
from app.storage import idle_clock, opportunities, pipelines, rearrangement
from app.storage.engine import Connection, Database, Lock
from app.storage.ids import new_id
from app.storage.statement import execute

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
KINDS = ("call", "visit", "note")
ORIGIN, TARGET, LATER = 2, 4, 7

# The examples of one test share a workspace; each makes a pipeline of its own in it.
on_the_database = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def before_now(days: int) -> st.SearchStrategy[datetime]:
    span = days * 86_400_000_000
    return st.integers(0, span).map(lambda us: NOW - timedelta(microseconds=us))


periods = st.one_of(
    st.none(),
    st.integers(1, 20 * 86_400).map(lambda seconds: Period(seconds=seconds)),
    st.integers(1, 20).map(lambda days: Period(days=days)),
)
rules = st.builds(
    IdleRule,
    clock=st.sampled_from(IdleClock),
    after=periods,
    after_by_priority=st.dictionaries(st.sampled_from(["high", "low"]), periods),
    qualifying=st.lists(st.sampled_from(KINDS), unique=True, min_size=1).map(tuple),
    since=before_now(30),
)


@dataclass(frozen=True)
class Case:
    """One deal before the change, under the old rule."""

    entered: timedelta
    moved_at: datetime
    activities: tuple[tuple[str, datetime], ...]
    priority: str | None
    holds: Holds
    dwell: Mapping[int, timedelta]
    flag: str | None

    def last_activity(self, rule: IdleRule) -> datetime | None:
        return max((at for kind, at in self.activities if kind in rule.qualifying), default=None)

    def clock(self, stage: Stage, holds: Holds) -> IdleState:
        return idle_state(
            stage,
            self.priority,
            moved_at=self.moved_at,
            last_activity_at=self.last_activity(stage.idle),
            holds=holds,
        )

    def deal(self, pipeline: Pipeline) -> Opportunity:
        stage = pipeline.by_slot[ORIGIN]
        flagged = self.flag is not None
        return Opportunity(
            opportunity_id=new_id(),
            pipeline_id=pipeline.pipeline_id,
            version=3,
            name="Deal",
            facts=Facts(priority=self.priority),
            position=Position(
                status=Status.OPEN,
                slot=ORIGIN,
                seq=5,
                stage_entered_at=min(self.moved_at + self.entered, NOW),
                opened_at=self.moved_at - timedelta(days=90),
                closed_at=None,
                reach_mask=0b10,
                dwell=self.dwell,
                moved_at=self.moved_at,
            ),
            idle=self.clock(stage, self.holds),
            created_at=NOW - timedelta(days=100),
            updated_at=NOW - timedelta(days=1),
            attributes={},
            last_activity_at=self.last_activity(stage.idle),
            holds=self.holds,
            flag_id=new_id() if flagged else None,
            flagged_at=NOW - timedelta(hours=1) if self.flag == "open" else None,
        )


cases = st.builds(
    Case,
    entered=st.integers(0, 40 * 86_400_000_000).map(lambda us: timedelta(microseconds=us)),
    moved_at=before_now(30),
    activities=st.lists(st.tuples(st.sampled_from(KINDS), before_now(40)), max_size=4).map(tuple),
    priority=st.sampled_from([None, "high", "low", "other"]),
    holds=st.builds(
        Holds,
        rule_since=st.none() | before_now(20),
        snoozed_until=st.none() | before_now(20).map(lambda at: at + timedelta(days=10)),
    ),
    dwell=st.dictionaries(
        st.integers(1, 9), st.integers(0, 10**12).map(lambda us: timedelta(microseconds=us))
    ),
    flag=st.sampled_from([None, "open", "snoozed"]),
)


def pipeline_of(origin: IdleRule, target: IdleRule) -> Pipeline:
    def opened(key: str, slot: int, rule: IdleRule) -> Stage:
        return Stage(key=key, name=key.title(), kind=StageKind.OPEN, slot=slot, idle=rule)

    reasons = (LossReason("price", "Price"),)
    identity = new_id()
    return Pipeline(
        pipeline_id=identity,
        key=f"p-{identity.hex}",
        name="P",
        revision=1,
        flow=Flow.FREE,
        stages=(
            opened("origin", ORIGIN, origin),
            opened("target", TARGET, target),
            opened("later", LATER, IdleRule()),
            Stage(key="won", name="Won", kind=StageKind.WON, slot=8),
            Stage(key="lost", name="Lost", kind=StageKind.LOST, slot=9, loss_reasons=reasons),
        ),
    )


async def keep(
    connection: Connection, workspace: UUID, pipeline: Pipeline, drawn: list[Case]
) -> list[Opportunity]:
    await pipelines.save(connection, workspace, pipeline, actor="t", instant=NOW)
    deals = [case.deal(pipeline) for case in drawn]
    for case, deal in zip(drawn, deals, strict=True):
        await execute(connection, [opportunities.insert(workspace, deal)])
        for kind, at in case.activities:
            await connection.execute(
                "INSERT INTO activity (workspace_id, opportunity_id, activity_id, pipeline_id,"
                " kind, occurred_at, recorded_at, actor) VALUES ($1, $2, $3, $4, $5, $6, $6, 't')",
                *(workspace, deal.opportunity_id, new_id(), deal.pipeline_id, kind, at),
            )
        if deal.flag_id is not None:
            await connection.execute(
                "INSERT INTO idle_flag (workspace_id, opportunity_id, clock_started_at, flag_id,"
                " pipeline_id, slot, clock, idle_since, opened_at)"
                " VALUES ($1, $2, $3, $4, $5, $6, 'stage_age', $7, $7)",
                *(workspace, deal.opportunity_id, deal.idle.clock_started_at, deal.flag_id),
                *(deal.pipeline_id, ORIGIN, NOW - timedelta(hours=1)),
            )
    return deals


async def stored(
    connection: Connection, workspace: UUID, deal: Opportunity
) -> tuple[Opportunity, str | None]:
    """The deal as it stands in the database, and why its flag was resolved."""
    row = await connection.fetchrow(
        "SELECT o.*, f.resolved_by FROM opportunity AS o LEFT JOIN idle_flag AS f"
        " ON f.workspace_id = o.workspace_id AND f.flag_id = $3"
        " WHERE o.workspace_id = $1 AND o.opportunity_id = $2",
        *(workspace, deal.opportunity_id, deal.flag_id),
    )
    assert row is not None
    return opportunities.deal_of(row), row["resolved_by"]


def ends(deal: Opportunity, stage: Stage, clock: IdleState) -> bool:
    """Whether the rule leaves the deal's flag no longer due, a snooze aside."""
    if deal.flag_id is None:
        return False
    due = crossing(stage.idle, deal.facts.priority, clock.clock_started_at)
    return due is None or due > NOW or clock.clock_started_at != deal.idle.clock_started_at


@on_the_database
@given(old=rules, new=rules, drawn=st.lists(cases, min_size=1, max_size=6))
async def test_a_changed_rule_clocks_every_deal_as_the_domain_does(
    database: Database, principal: Principal, old: IdleRule, new: IdleRule, drawn: list[Case]
) -> None:
    workspace = principal.workspace_id
    changed = replace(new, since=NOW)

    async def work(connection: Connection) -> None:
        pipeline = pipeline_of(old, IdleRule())
        deals = await keep(connection, workspace, pipeline, drawn)
        stage = replace(pipeline.by_slot[ORIGIN], idle=changed)
        ended = await idle_clock.recompute(connection, workspace, pipeline.pipeline_id, stage, NOW)
        expected_ends = set()
        for case, deal in zip(drawn, deals, strict=True):
            expected = case.clock(stage, deal.holds)
            found, resolved_by = await stored(connection, workspace, deal)
            assert found.idle == expected
            assert found.holds == deal.holds
            assert found.position == deal.position
            # What the row says of activities gives the same clock the next time.
            again = idle_state(
                stage,
                case.priority,
                moved_at=case.moved_at,
                last_activity_at=found.last_activity_at,
                holds=deal.holds,
            )
            assert again == expected
            if ends(deal, stage, expected):
                expected_ends.add((deal.opportunity_id, deal.flag_id))
                assert (found.flag_id, found.flagged_at) == (None, None)
                assert resolved_by == "not_due"
            else:
                assert (found.flag_id, found.flagged_at) == (deal.flag_id, deal.flagged_at)
                assert resolved_by is None
            if found.version == deal.version:
                assert found == deal
            else:
                assert (found.version, found.updated_at) == (deal.version + 1, NOW)
        assert {(deal.opportunity_id, flag) for deal, flag in ended} == expected_ends
        ended_again = await idle_clock.recompute(
            connection, workspace, pipeline.pipeline_id, stage, NOW
        )
        assert ended_again == []

    await database.write(workspace, work, lock=Lock.DEFINITIONS)


@on_the_database
@given(old=rules, new=rules, drawn=st.lists(cases, min_size=1, max_size=6))
async def test_a_rearranged_deal_stands_where_the_journey_says_and_its_clock_goes_on(
    database: Database, principal: Principal, old: IdleRule, new: IdleRule, drawn: list[Case]
) -> None:
    workspace = principal.workspace_id

    async def work(connection: Connection) -> None:
        pipeline = pipeline_of(old, new)
        origin, target = pipeline.by_slot[ORIGIN], pipeline.by_slot[TARGET]
        deals = await keep(connection, workspace, pipeline, drawn)
        assert await rearrangement.deals_held(connection, workspace, pipeline, pipeline.stages) == {
            "origin": len(deals)
        }
        moving = await rearrangement.next_deals(connection, workspace, pipeline.pipeline_id, origin)
        assert sorted(moving) == sorted(deal.opportunity_id for deal in deals)
        told = await rearrangement.move(
            connection,
            workspace,
            moving,
            revised=pipeline,
            origin=origin,
            target=target,
            actor="mia",
            instant=NOW,
        )
        moved = {deal.opportunity_id: (deal, flag, entry) for (deal, flag), entry in told}
        for case, deal in zip(drawn, deals, strict=True):
            found, resolved_by = await stored(connection, workspace, deal)
            told_deal, told_flag, entry = moved[deal.opportunity_id]
            assert told_deal == found
            entered = deal.position.stage_entered_at
            transition = Transition(
                seq=6,
                kind=TransitionKind.REARRANGED,
                from_slot=ORIGIN,
                entered_at=entered,
                to_slot=TARGET,
                occurred_at=max(NOW, entered + timedelta(microseconds=1)),
                facts=deal.facts,
            )
            assert entry.transition == transition
            assert (entry.from_name, entry.to_name, entry.actor) == ("Origin", "Target", "mia")
            assert found.position == journey.after(pipeline, deal.position, transition)
            differs = old.threshold(case.priority) is not new.threshold(case.priority) and (
                _length(old, case) != _length(new, case)
            )
            other_clock = old.clock is not new.clock or (
                new.clock is IdleClock.INACTIVITY and set(old.qualifying) != set(new.qualifying)
            )
            holds = replace(deal.holds, rule_since=NOW) if differs or other_clock else deal.holds
            expected = case.clock(target, holds)
            assert (found.idle, found.holds) == (expected, holds)
            assert (found.version, found.updated_at) == (deal.version + 1, NOW)
            if ends(deal, target, expected):
                assert (found.flag_id, told_flag, resolved_by) == (None, deal.flag_id, "not_due")
            else:
                assert (found.flag_id, told_flag, resolved_by) == (deal.flag_id, None, None)

    await database.write(workspace, work, lock=Lock.DEFINITIONS)


def _length(rule: IdleRule, case: Case) -> Any:
    period = rule.threshold(case.priority)
    return None if period is None else period.length
