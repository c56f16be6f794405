"""Changing what a deal is, never where it stands: facts, with every old value kept."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from app.actions import announcements
from app.actions.deciding import VersionCheck, decide
from app.actions.move_opportunity import resolving
from app.actions.open_opportunity import NewDeal, Opened, in_sight, opening
from app.domain import opportunity
from app.domain.access import WHOLE, Principal
from app.domain.errors import AlreadyExists, Breach, Conflict, CurrencyMissing, Stale
from app.domain.opportunity import Opportunity
from app.domain.pipeline import Pipeline
from app.storage import opportunities, pipelines
from app.storage.engine import Connection, Database
from app.storage.idempotency import Answer
from app.storage.ids import new_id
from app.storage.opportunities import FACTS
from app.storage.statement import LostRace, Part, execute

Changes = dict[str, tuple[Any, Any]]
"""Field → (old, new), for the fields that differ."""


async def amend_opportunity(
    database: Database,
    principal: Principal,
    opportunity_id: UUID,
    values: Mapping[str, Any],
    *,
    check: VersionCheck,
    merge: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]],
) -> tuple[Opportunity, Pipeline]:
    """Change the given facts; those that are as they were leave no trace.

    `merge` makes the new attributes of the old ones and the given ones. Raises NotFound,
    VersionRequired, Stale, AlreadyExists for a taken external_id.
    """
    workspace = principal.workspace_id

    async def work(connection: Connection, locked: bool) -> tuple[Opportunity, Pipeline]:
        found = await opportunities.read(
            connection, workspace, opportunity_id, sight=principal.sight, locked=locked
        )
        check(found.deal.version)
        pipeline = await pipelines.load(
            connection, workspace, found.deal.pipeline_id, found.revision
        )
        given = dict(values)
        if "attributes" in given:
            given["attributes"] = merge(found.deal.attributes, given["attributes"])
        after, parts = amending(workspace, found.deal, pipeline, given, found.now, principal)
        if parts:
            await execute(connection, parts)
        return after, pipeline

    return await decide(database, workspace, None, work)


async def upsert_opportunity(
    database: Database,
    principal: Principal,
    new: NewDeal,
    *,
    check: VersionCheck,
    expects_existing: bool,
    opened: Opened,
    amended: Callable[[Opportunity, Pipeline], Answer],
) -> Answer:
    """Open the deal of `new.external_id`, or replace its facts by those of `new`.

    With `expects_existing` a deal that is not there is Stale. Raises Conflict where that deal is in
    another pipeline, and what opening and amending raise.
    """
    workspace = principal.workspace_id
    new = replace(new, facts=in_sight(principal.sight, new.facts))

    async def work(connection: Connection, locked: bool) -> Answer:
        pipeline = await pipelines.current(connection, workspace, new.pipeline)
        known = await connection.fetchval(opportunities.BY_EXTERNAL_ID, workspace, new.external_id)
        if known is None:
            if expects_existing:
                raise Stale(f"There is no opportunity {new.external_id!r} to replace.")
            now = await connection.fetchval("SELECT clock_timestamp()")
            deal, parts = opening(workspace, pipeline, new, now, actor=principal.subject)
            try:
                await execute(connection, parts)
            except AlreadyExists as taken:  # a twin opened it in between: amend what it opened
                raise LostRace from taken
            return opened(deal, pipeline)
        found = await opportunities.read(connection, workspace, known, sight=WHOLE, locked=locked)
        facts = found.deal.facts
        if not principal.sight.holds(facts.owner, facts.team):
            raise AlreadyExists("Another opportunity bears this external_id.")
        check(found.deal.version)
        if found.deal.pipeline_id != pipeline.pipeline_id:
            raise Conflict(
                f"The opportunity {new.external_id!r} is in another pipeline; hand it off instead.",
                [Breach("/pipeline", "other_pipeline", "Not the pipeline of this opportunity.")],
            )
        values = {name: getattr(new.facts, name) for name in FACTS} | {
            "name": new.name,
            "tags": new.tags,
            "attributes": new.attributes,
            "expected_close_on": new.expected_close_on,
        }
        after, parts = amending(workspace, found.deal, pipeline, values, found.now, principal)
        if parts:
            await execute(connection, parts)
        return amended(after, pipeline)

    return await decide(database, workspace, None, work)


def amending(
    workspace: UUID,
    deal: Opportunity,
    pipeline: Pipeline,
    values: Mapping[str, Any],
    now: datetime,
    principal: Principal,
) -> tuple[Opportunity, list[Part]]:
    """The deal with these facts and the parts that write it; no parts where nothing differs."""
    changes: Changes = {}
    for name, new in values.items():
        old = getattr(deal.facts if name in FACTS else deal, name)
        if not _same(old, new):
            changes[name] = (old, new)
    if not changes:
        return deal, []
    facts = replace(
        deal.facts, **{name: new for name, (_, new) in changes.items() if name in FACTS}
    )
    if facts.amount is not None and facts.currency is None:
        raise CurrencyMissing("An amount needs its currency.")
    others = {name: new for name, (_, new) in changes.items() if name not in FACTS}
    after, resolution = opportunity.amended(deal, pipeline, now, facts=facts, **others)
    return after, [
        opportunities.save_facts(workspace, after),
        *kept_changes(workspace, deal, changes, now, principal.subject),
        announcements.updated(workspace, after, pipeline, changes, now),
        *resolving(workspace, deal, resolution, after, pipeline),
    ]


def _same(old: Any, new: Any) -> bool:
    """Whether both are one value in JSON, where 1 and true are two: Python says they are equal."""
    if isinstance(new, Mapping):
        return json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True)
    return bool(old == new)


def kept_changes(
    workspace: UUID, deal: Opportunity, changes: Changes, at: datetime, actor: str
) -> list[Part]:
    """A row of `opportunity_change` a field."""
    change_id = new_id()
    return [
        Part(
            opportunities.CHANGE,
            (
                workspace,
                deal.opportunity_id,
                change_id,
                name,
                deal.pipeline_id,
                json.dumps(announcements.plain(old)),
                json.dumps(announcements.plain(new)),
                at,
                at,
                actor,
            ),
        )
        for name, (old, new) in changes.items()
    ]
