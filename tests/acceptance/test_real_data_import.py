"""Two real files imported as their owners would, against figures computed independently.

`maven_crm` is a sales organisation's deals, a row each; `sepsis` a hospital's process log, which
asks for all that is hard: several outcomes, returns after them, moves back, rows that repeat a
stage, rows that are no stage at all, a case whose id is the text NA. The files lie beside the
project; where they are absent, these tests are skipped.
"""

import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app.actions.check_projection import disagreements
from app.actions.import_history import run_next_import
from app.actions.import_mapping import parse_mapping
from app.actions.receive_import import receive_import
from app.domain.access import Principal
from app.domain.pipeline import Flow, LossReason, Pipeline, Stage, StageKind
from app.storage import imports
from app.storage.engine import Connection, Database
from app.storage.idempotency import Answer
from app.storage.ids import new_id
from app.storage.imports import ImportJob, State
from tests.conftest import make_workspace
from tests.factories import keep_pipeline, stage

DATA = Path(__file__).parents[2].parent / "shared" / "data"
MAVEN, SEPSIS = DATA / "maven_crm", DATA / "sepsis"

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason="the reference data sets are not here"),
]

MAVEN_MAPPING = {
    "shape": "wide",
    "deal": "opportunity_id",
    "dates": {"engage_date": "engaging"},
    "current_stage": {"column": "deal_stage", "entered_at": "close_date"},
    "stages": {
        "Prospecting": "prospecting",
        "Engaging": "engaging",
        "Won": "won",
        "Lost": "lost",
    },
    "facts": {
        "amount": "close_value",
        "owner": "sales_agent",
        "attributes": {"product": "product", "account": "account"},
    },
    "constants": {"currency": "USD", "loss_reason": "unspecified"},
    "instants": {"format": "iso", "timezone": "UTC"},
}
PLACED = {"default_occurred_at": "2017-12-31T00:00:00Z"}

PATH = ("ER Registration", "ER Triage", "ER Sepsis Triage", "Admission NC", "Admission IC")
RELEASES = tuple(f"Release {letter}" for letter in "ABCDE")
TESTS = ("Leucocytes", "CRP", "LacticAcid", "IV Antibiotics", "IV Liquid")


def slug(name: str) -> str:
    return name.lower().replace(" ", "-")


SEPSIS_MAPPING = {
    "shape": "long",
    "deal": "case_id",
    "stage": "activity",
    "occurred_at": "timestamp",
    "sequence": "order",
    "stages": {name: slug(name) for name in (*PATH, "Return ER", *RELEASES)},
    "activities": {name: slug(name) for name in TESTS},
    "facts": {"owner": "resource"},
}


def of_stages(key: str, *stages: Stage) -> Pipeline:
    return Pipeline(
        pipeline_id=new_id(), key=key, name=key, revision=1, flow=Flow.FREE, stages=stages
    )


def maven_pipeline() -> Pipeline:
    return of_stages(
        "maven",
        stage("prospecting", 1),
        stage("engaging", 2),
        stage("won", 3, StageKind.WON),
        stage("lost", 4, StageKind.LOST, loss_reasons=(LossReason("unspecified", "None given"),)),
    )


def sepsis_pipeline() -> Pipeline:
    return of_stages(
        "sepsis",
        *(stage(slug(name), slot) for slot, name in enumerate(PATH, start=1)),
        stage("return-er", 6, off_path=True),
        *(stage(slug(name), slot, StageKind.WON) for slot, name in enumerate(RELEASES, start=7)),
        stage("lost", 12, StageKind.LOST, loss_reasons=(LossReason("unspecified", "None given"),)),
    )


@pytest.fixture
async def database(own_database: str) -> AsyncIterator[Database]:
    """No service runs imports here by itself."""
    opened = await Database.open(own_database, size=4)
    yield opened
    await opened.close()


class Importer:
    """A workspace with one pipeline, and files imported into it."""

    def __init__(self, database: Database, principal: Principal, pipeline: Pipeline) -> None:
        self.database = database
        self.principal = principal
        self.workspace = principal.workspace_id
        self.pipeline = pipeline

    async def run(self, content: bytes, mapping: Any) -> dict[str, int]:
        """What the import has counted, zeros left out."""

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(content), 100_000):
                yield content[start : start + 100_000]

        received = await receive_import(
            self.database,
            self.principal,
            self.pipeline.key,
            parse_mapping(json.dumps(mapping)),
            chunks(),
            on_error="skip",
            on_conflict="reject",
            request=None,
            answer=lambda job: Answer(202, str(job.import_id).encode()),
        )
        while await run_next_import(self.database, self.workspace):
            pass
        job = await self.job(UUID(received.body.decode()))
        assert (job.state, job.failure) == (State.COMPLETED, None)
        ends = ("transitions", "present", "unchanged", "activities", "activities_present")
        assert sum(job.counts[name] for name in ends) == job.rows_staged == job.rows_done
        return {name: number for name, number in job.counts.items() if number}

    async def job(self, import_id: UUID) -> ImportJob:
        async with self.database.read(self.workspace) as connection:
            return (await imports.read(connection, self.workspace, import_id))[0]

    async def ask(self, query: str) -> list[tuple[Any, ...]]:
        async def work(connection: Connection) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in await connection.fetch(query)]

        return await self.database.write(self.workspace, work)

    async def disagreements(self) -> list[Any]:
        """The deals whose row is not what their log makes of them."""
        return [each async for each in disagreements(self.database, self.workspace)]


async def importer(database: Database, pipeline: Pipeline) -> Importer:
    principal, _ = await make_workspace(database)
    await keep_pipeline(database, principal.workspace_id, pipeline)
    return Importer(database, principal, pipeline)


def reference(folder: Path) -> Any:
    return json.loads((folder / "reference.json").read_text())


async def test_maven_crm_gives_the_log_that_its_dates_tell(database: Database) -> None:
    told = reference(MAVEN)
    maven = await importer(database, maven_pipeline())
    content = (MAVEN / "sales_pipeline.csv").read_bytes()
    assert await maven.run(content, MAVEN_MAPPING) == {
        "records": 8_800,
        "rejected": 500,
        "transitions": 15_011,
        "deals_created": 8_300,
    }
    remarks = await maven.ask("SELECT code, column_name, raw FROM import_remark")
    assert {(code, column) for code, column, _ in remarks} == {("undated", "deal_stage")}
    assert all(",Prospecting," in raw for *_, raw in remarks)

    placed = {**MAVEN_MAPPING, "undated": PLACED}
    assert await maven.run(content, placed) == {
        "records": 8_800,
        "transitions": 500,
        "present": 15_011,
        "deals_created": 500,
    }
    assert await maven.run(content, placed) == {"records": 8_800, "present": 15_511}

    stands = dict(await maven.ask("SELECT slot, count(*) FROM opportunity GROUP BY slot"))
    stages = told["stages"]
    assert stands == {
        1: stages["Prospecting"],
        2: stages["Engaging"],
        3: stages["Won"],
        4: stages["Lost"],
    }
    ((won,),) = await maven.ask("SELECT sum(amount) FROM opportunity WHERE status = 'won'")
    assert won == told["value"]["won_sum"]
    assert await maven.disagreements() == []


async def test_maven_crm_gives_the_cycles_quarters_and_agents_of_the_reference(
    database: Database,
) -> None:
    told = reference(MAVEN)
    maven = await importer(database, maven_pipeline())
    await maven.run((MAVEN / "sales_pipeline.csv").read_bytes(), MAVEN_MAPPING)
    days = "extract(epoch FROM closed_at - opened_at)::float8 / 86400"
    cycles = await maven.ask(
        f"SELECT status, count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY {days}), "
        f"percentile_cont(0.9) WITHIN GROUP (ORDER BY {days}) "
        "FROM opportunity WHERE status <> 'open' GROUP BY status"
    )
    expected = told["cycle_days_engage_to_close"]
    assert {status: tuple(rest) for status, *rest in cycles} == {
        name: (expected[name]["n"], expected[name]["p50_cont"], expected[name]["p90_cont"])
        for name in ("won", "lost")
    }
    quarters = await maven.ask(
        "SELECT to_char(closed_at, 'YYYY\"Q\"Q'), initcap(status), count(*), sum(amount) "
        "FROM opportunity WHERE status <> 'open' GROUP BY 1, 2"
    )
    for quarter, status, count, amount in quarters:
        assert told["by_quarter_of_close"][quarter][status] == count
        if status == "Won":
            assert told["by_quarter_of_close"][quarter]["won_value"] == amount
    agents = await maven.ask("SELECT owner, status, count(*) FROM opportunity GROUP BY 1, 2")
    names = {"won": "Won", "lost": "Lost", "open": "Engaging"}
    for agent, status, count in agents:
        assert told["by_agent"][agent][names[status]] == count
    idle = told["idle_open_engaging_by_engage_date"]
    ((found,),) = await maven.ask(
        "SELECT count(*) FROM opportunity WHERE status = 'open' AND slot = 2 "
        f"AND stage_entered_at + interval '14 days' <= timestamptz '{idle['as_of']}T00:00:00Z'"
    )
    assert found == idle["by_days"]["14"]["ge"]


def sepsis_file() -> tuple[bytes, list[bytes]]:
    header, *rows = (SEPSIS / "derived_events.csv").read_bytes().splitlines(keepends=True)
    return header, rows


WHOLE = {
    "records": 15_214,
    "transitions": 5_176,
    "unchanged": 351,
    "activities": 9_687,
    "deals_created": 1_050,
}
AGAIN = {
    "records": 15_214,
    "present": 5_176,
    "unchanged": 351,
    "activities_present": 9_687,
}


def plain(counts: dict[str, int]) -> dict[str, int]:
    """Without what today's flow would say: it is reported, and judges nothing."""
    return {name: number for name, number in counts.items() if name != "against_flow"}


async def everything(sepsis: Importer) -> Sequence[Any]:
    """All that the import has written, without what is drawn anew each time."""
    return [
        await sepsis.ask(
            "SELECT o.external_id, t.seq, t.kind, t.from_slot, t.entered_at, t.to_slot, "
            "t.occurred_at, t.owner FROM transition AS t "
            "JOIN opportunity AS o USING (workspace_id, opportunity_id) ORDER BY 1, 2"
        ),
        await sepsis.ask(
            "SELECT external_id, status, slot, seq, stage_entered_at, opened_at, closed_at, "
            "reach_mask, dwell, owner FROM opportunity ORDER BY 1"
        ),
        await sepsis.ask(
            "SELECT o.external_id, a.kind, a.occurred_at FROM activity AS a "
            "JOIN opportunity AS o USING (workspace_id, opportunity_id) ORDER BY 1, 2, 3"
        ),
    ]


async def test_sepsis_gives_every_case_and_the_dwell_of_the_reference(database: Database) -> None:
    sepsis = await importer(database, sepsis_pipeline())
    header, rows = sepsis_file()
    assert plain(await sepsis.run(header + b"".join(rows), SEPSIS_MAPPING)) == WHOLE
    kinds = Counter(dict(await sepsis.ask("SELECT kind, count(*) FROM transition GROUP BY kind")))
    assert kinds["opened"] == 1_050
    assert kinds["reopened"] == 295
    assert await sepsis.ask("SELECT count(*) FROM opportunity WHERE status = 'won'") == [(487,)]
    releases = sum(1 << (slot - 1) for slot in range(7, 12))
    ever = f"SELECT count(*) FROM opportunity WHERE reach_mask & {releases} <> 0"
    assert await sepsis.ask(ever) == [(782,)]
    na = await sepsis.ask("SELECT status FROM opportunity WHERE external_id = 'NA'")
    assert na == [("won",)]

    seconds = "extract(epoch FROM occurred_at - entered_at)::float8"
    dwell = await sepsis.ask(
        f"SELECT from_slot, count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY {seconds}), "
        f"percentile_cont(0.9) WITHIN GROUP (ORDER BY {seconds}) "
        "FROM transition WHERE from_slot <= 5 GROUP BY from_slot"
    )
    by_stage = {slot: (n, p50, p90) for slot, n, p50, p90 in dwell}
    assert [by_stage[slot][0] for slot in (1, 2, 3)] == [1_050, 1_049, 813]
    assert by_stage[4] == (811, 429_249, 1_207_822)
    assert by_stage[5] == (108, 142_063.5, 565_019)

    at = "timestamptz '2014-06-30T23:59:59Z'"
    seen = (
        "SELECT DISTINCT ON (opportunity_id) to_slot, occurred_at FROM transition "
        f"WHERE occurred_at <= {at} ORDER BY opportunity_id, seq DESC"
    )
    snapshot = await sepsis.ask(
        "SELECT count(*), count(*) FILTER (WHERE to_slot BETWEEN 7 AND 11), "
        "count(*) FILTER (WHERE to_slot <= 6), "
        f"count(*) FILTER (WHERE to_slot <= 6 AND occurred_at + interval '7 days' <= {at}) "
        f"FROM ({seen}) AS seen"
    )
    assert snapshot == [(544, 292, 252, 232)]
    assert await sepsis.disagreements() == []


async def test_sepsis_shuffled_twice_and_in_halves_gives_the_same(database: Database) -> None:
    header, rows = sepsis_file()
    whole = header + b"".join(rows)
    in_order = await importer(database, sepsis_pipeline())
    assert plain(await in_order.run(whole, SEPSIS_MAPPING)) == WHOLE
    expected = await everything(in_order)
    assert await in_order.run(whole, SEPSIS_MAPPING) == AGAIN
    assert await everything(in_order) == expected

    shuffled = await importer(database, sepsis_pipeline())
    mixed = random.Random(7).sample(rows, len(rows))
    assert plain(await shuffled.run(header + b"".join(mixed), SEPSIS_MAPPING)) == WHOLE
    assert await everything(shuffled) == expected

    halves = await importer(database, sepsis_pipeline())
    cut = b"2014-07-01"
    for half in (
        [line for line in rows if line.split(b",")[2] < cut],
        [line for line in rows if line.split(b",")[2] >= cut],
    ):
        await halves.run(header + b"".join(half), SEPSIS_MAPPING)
    assert await everything(halves) == expected
    assert await halves.run(whole, SEPSIS_MAPPING) == AGAIN
    assert await everything(halves) == expected
