"""Recording an activity: what was done about a deal, and its idle clock where that counts."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.actions import announcements
from app.actions.deciding import Change, Decision, change
from app.actions.move_opportunity import resolving
from app.domain import opportunity, transition
from app.domain.access import Principal
from app.domain.errors import Breach, TimeOutOfRange
from app.domain.idleness import NextStep
from app.storage import activities, opportunities, pipelines
from app.storage.activities import Activity
from app.storage.engine import Connection, Database
from app.storage.idempotency import Answer, Repeatable
from app.storage.ids import new_id
from app.storage.opportunities import Asked, Reading

Recorded = Callable[[Activity], Answer]
"""Renders what the caller is answered; it is kept with the effect, in the same transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp:
    """What a caller says was done, and what is to be done next. `occurred_at` None: now."""

    kind: str
    content: str | None = None
    outcome: str | None = None
    occurred_at: datetime | None = None
    next_step: str | None = None
    next_step_at: datetime | None = None


async def record_activity(
    database: Database,
    principal: Principal,
    opportunity_id: UUID,
    done: FollowUp,
    *,
    request: Repeatable | None,
    answer: Recorded,
) -> Answer:
    """Record a follow-up on a deal, open or closed. Raises NotFound, TimeOutOfRange.

    The deal's row is written only where the activity counts for its clocks or plans a next step: a
    note makes no new version of the deal.
    """
    workspace = principal.workspace_id

    async def decide(connection: Connection, found: Reading) -> Decision:
        deal, now = found.deal, found.now
        pipeline = await pipelines.load(connection, workspace, deal.pipeline_id, found.revision)
        occurred_at = transition.instant_of(done.occurred_at, None, now)
        activity = Activity(
            activity_id=new_id(),
            opportunity_id=opportunity_id,
            pipeline_id=deal.pipeline_id,
            kind=done.kind,
            content=done.content,
            outcome=done.outcome,
            next_step=done.next_step,
            next_step_at=done.next_step_at,
            occurred_at=occurred_at,
            recorded_at=now,
            actor=principal.subject,
        )
        after, resolution = opportunity.followed_up(
            deal, pipeline, done.kind, occurred_at, now, next_step_of(done, occurred_at)
        )
        resets = after.idle.clock_started_at != deal.idle.clock_started_at
        return Decision(
            answer(activity),
            [
                *([] if after is deal else [opportunities.save_clock(workspace, after)]),
                activities.append(workspace, activity),
                announcements.activity_recorded(
                    workspace, after, activity, pipeline, resets_clock=resets
                ),
                *resolving(workspace, deal, resolution, after, pipeline),
            ],
        )

    asked = Asked(opportunity_id, principal.sight, request)
    return await change(database, workspace, Change(asked, decide))


def next_step_of(done: FollowUp | Activity, occurred_at: datetime) -> NextStep | None:
    """The next step that was agreed there. Raises TimeOutOfRange where it is to be done before."""
    if done.next_step_at is None:
        return None
    if done.next_step_at <= occurred_at:
        detail = "The next step comes after what was done."
        raise TimeOutOfRange(detail, [Breach("/next_step_at", "time_out_of_range", detail)])
    return NextStep(done.next_step_at, occurred_at, done.next_step)
