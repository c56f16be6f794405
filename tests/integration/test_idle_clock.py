"""What a changed definition does to many deals at once is what the domain says of each of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.actions.rearrange_deals import rearrange
from app.domain import journey
from app.domain.access import Principal
from app.domain.idleness import Holds, IdleState, NextStep, goes_idle_at, idle_state
from app.domain.journey import Facts, Position, Status, Transition, TransitionKind
from app.domain.opportunity import Opportunity
from app.domain.period import Period
from app.domain.pipeline import Flow, IdleClock, IdleRule, LossReason, Pipeline, Stage, StageKind
from app.storage import opportunities, pipelines, stage_deals, transitions
from app.storage.engine import Connection, Database, Lock
from app.storage.ids import new_id
from app.storage.pipelines import Revision
from app.storage.statement import execute
from tests.factories import OFFICE

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
KINDS = ("call", "visit", "note")
ORIGIN, TARGET, LATER = 2, 4, 7

# The examples of one test share a workspace; each makes a pipeline of its own in it.
on_the_database = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def before_now(days: int) -> st.SearchStrategy[datetime]:
    span = days * 86_400_000_000
    return st.integers(1, span).map(lambda us: NOW - timedelta(microseconds=us))


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
    critical_after=periods,
    max_pause=periods,
    calendar=st.none() | st.just(OFFICE),
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
        next_step=st.none()
        | st.builds(
            NextStep,
            at=before_now(20).map(lambda at: at + timedelta(days=10)),
            planned_at=before_now(40),
            what=st.none() | st.just("Send the quote"),
        ),
    ),
    dwell=st.dictionaries(
        st.integers(1, 9), st.integers(0, 10**12).map(lambda us: timedelta(microseconds=us))
    ),
    flag=st.sampled_from([None, "open", "snoozed"]),
)


def pipeline_of(origin: IdleRule, target: IdleRule) -> Pipeline:
    def opened(key: str, slot: int, rule: IdleRule) -> Stage:
        cadence = Period(days=3) if key == "target" else None
        return Stage(
            key=key,
            name=key.title(),
            kind=StageKind.OPEN,
            slot=slot,
            idle=rule,
            follow_up_every=cadence,
        )

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


def revised(pipeline: Pipeline, **rules_by_key: IdleRule) -> Pipeline:
    """The next revision, with other rules."""
    stages = tuple(
        replace(stage, idle=rules_by_key.get(stage.key, stage.idle)) for stage in pipeline.stages
    )
    return replace(pipeline, revision=2, stages=stages)


def in_force(pipeline: Pipeline) -> Revision:
    return Revision(pipeline, "mia", in_force_at=NOW, created_at=NOW)


def ends(deal: Opportunity, stage: Stage, clock: IdleState, holds: Holds) -> bool:
    """Whether the rule leaves the deal's flag no longer due, a snooze aside."""
    if deal.flag_id is None:
        return False
    unsnoozed = replace(holds, snoozed_until=None)
    due = goes_idle_at(stage, deal.facts.priority, clock.clock_started_at, unsnoozed)
    return due is None or due > NOW or clock.clock_started_at != deal.idle.clock_started_at


async def check(
    connection: Connection, workspace: UUID, case: Case, deal: Opportunity, stage: Stage, by: Holds
) -> Opportunity:
    """That the deal's clock in the database is the stage's under these holds, and that it bears
    its flag only where it is due. The snooze of a flag ends with it.
    """
    expected, resolution = case.clock(stage, by), None
    if ended := ends(deal, stage, expected, by):
        by, resolution = replace(by, snoozed_until=None), "not_due"
        expected = case.clock(stage, by)
    found, resolved_by = await stored(connection, workspace, deal)
    assert (found.idle, found.holds) == (expected, by)
    assert (found.version, found.updated_at) == (deal.version + 1, NOW)
    flag = (None, None) if ended else (deal.flag_id, deal.flagged_at)
    assert (found.flag_id, found.flagged_at) == flag
    assert resolved_by == resolution
    return found


@on_the_database
@given(old=rules, new=rules, drawn=st.lists(cases, min_size=1, max_size=6))
async def test_a_changed_rule_clocks_every_deal_as_the_domain_does(
    database: Database, principal: Principal, old: IdleRule, new: IdleRule, drawn: list[Case]
) -> None:
    workspace = principal.workspace_id

    async def work(connection: Connection) -> None:
        before = pipeline_of(old, IdleRule())
        deals = await keep(connection, workspace, before, drawn)
        after = revised(before, origin=replace(new, since=NOW))
        await rearrange(connection, principal, before, in_force(after), ())
        stage = after.by_slot[ORIGIN]
        for case, deal in zip(drawn, deals, strict=True):
            found = await check(connection, workspace, case, deal, stage, deal.holds)
            assert found.position == deal.position
            assert found.last_activity_at == case.last_activity(stage.idle)

    await database.write(workspace, work, lock=Lock.DEFINITIONS)


@on_the_database
@given(rule=rules, drawn=st.lists(cases, min_size=1, max_size=3))
async def test_a_rule_that_asks_the_same_in_other_words_leaves_every_deal_as_it_is(
    database: Database, principal: Principal, rule: IdleRule, drawn: list[Case]
) -> None:
    workspace = principal.workspace_id

    async def work(connection: Connection) -> None:
        before = pipeline_of(rule, IdleRule())
        deals = await keep(connection, workspace, before, drawn)
        stated = replace(rule, inherits=True, qualifying=tuple(reversed(rule.qualifying)))
        assert stated != rule
        await rearrange(connection, principal, before, in_force(revised(before, origin=stated)), ())
        for deal in deals:
            assert await stored(connection, workspace, deal) == (deal, None)

    await database.write(workspace, work, lock=Lock.DEFINITIONS)


@on_the_database
@given(rule=rules, drawn=st.lists(cases, min_size=1, max_size=3))
async def test_in_an_archived_pipeline_every_deal_rests_and_bears_no_flag(
    database: Database, principal: Principal, rule: IdleRule, drawn: list[Case]
) -> None:
    workspace = principal.workspace_id

    async def work(connection: Connection) -> None:
        before = pipeline_of(rule, IdleRule())
        deals = await keep(connection, workspace, before, drawn)
        archived = replace(before, revision=2, archived_at=NOW)
        await rearrange(connection, principal, before, in_force(archived), ())
        for deal in deals:
            found, resolved_by = await stored(connection, workspace, deal)
            idle = found.idle
            assert (idle.clock_started_at, idle.reset_by) == (
                deal.idle.clock_started_at,
                deal.idle.reset_by,
            )
            assert (idle.goes_idle_at, idle.critical_at, idle.follow_up_due_at) == (None,) * 3
            assert (found.version, found.flag_id, found.flagged_at) == (
                deal.version + 1,
                None,
                None,
            )
            assert resolved_by == (None if deal.flag_id is None else "not_due")

    await database.write(workspace, work, lock=Lock.DEFINITIONS)


@on_the_database
@given(old=rules, new=rules, drawn=st.lists(cases, min_size=1, max_size=6))
async def test_a_rearranged_deal_stands_where_the_journey_says_and_its_clock_goes_on(
    database: Database, principal: Principal, old: IdleRule, new: IdleRule, drawn: list[Case]
) -> None:
    workspace = principal.workspace_id

    async def work(connection: Connection) -> None:
        before = pipeline_of(old, new)
        origin, target = before.by_slot[ORIGIN], before.by_slot[TARGET]
        deals = await keep(connection, workspace, before, drawn)
        after = replace(before, revision=2)
        assert await stage_deals.held(connection, workspace, before, before.stages) == {
            "origin": len(deals)
        }
        await rearrange(connection, principal, before, in_force(after), [(origin, target)])
        assert await stage_deals.held(connection, workspace, before, before.stages) == {
            "target": len(deals)
        }
        for case, deal in zip(drawn, deals, strict=True):
            (entry,) = await transitions.standing(connection, workspace, deal.opportunity_id)
            entered = deal.position.stage_entered_at
            assert entry.transition == Transition(
                seq=6,
                kind=TransitionKind.REARRANGED,
                from_slot=ORIGIN,
                entered_at=entered,
                to_slot=TARGET,
                occurred_at=max(NOW, entered + timedelta(microseconds=1)),
                facts=deal.facts,
            )
            assert (entry.from_name, entry.to_name) == ("Origin", "Target")
            assert entry.actor == principal.subject
            holds = deal.holds
            if not alike(old, new, case.priority):
                holds = replace(holds, rule_since=NOW)
            found = await check(connection, workspace, case, deal, target, holds)
            assert found.position == journey.after(after, deal.position, entry.transition)

    await database.write(workspace, work, lock=Lock.DEFINITIONS)


def alike(old: IdleRule, new: IdleRule, priority: str | None) -> bool:
    """Whether a deal is due by the one when it is due by the other."""
    asked = [
        (
            rule.clock,
            rule.after_by_priority.get(priority or "", rule.after),
            rule.max_pause,
            rule.calendar,
            set(rule.qualifying) if rule.clock is IdleClock.INACTIVITY else None,
        )
        for rule in (old, new)
    ]
    return asked[0] == asked[1]
