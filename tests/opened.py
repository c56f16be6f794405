"""Every metric's answer to a case, as the definition makes it, and each of its counts by its cell.

`answers` walks the answers as callers get them, so that no count can be forgotten: what is a whole
number there and no name, place or length must have a cell.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from app.domain import funnel
from app.domain.funnel import Reentry, Skip
from app.domain.measures import (
    cell_names,
    closings,
    cumulative_flow,
    flow,
    snapshot,
    stage_time,
)
from app.domain.measures.calendar import By
from app.domain.measures.cell_names import HANDED_OFF, NONE, CellNames
from app.domain.measures.closings import DealPopulation, WinRate
from app.domain.measures.stage_time import VisitPopulation, VisitReentry
from app.http.schemas import cumulative_flow as cumulative_schemas
from app.http.schemas import flow as flow_schemas
from app.http.schemas import funnel as funnel_schemas
from app.http.schemas import outcomes
from tests.metric_cases import Case, cases

PLACES = ("rank",)


@dataclass(frozen=True)
class Opened:
    """A metric's answer to a case, its cells, and what each of them is said to count."""

    case: Case = field(repr=False)
    names: CellNames = field(repr=False)
    counts: dict[str, int]


def ungrouped() -> st.SearchStrategy[Case]:
    """Cases without a group: one is opened as the filter on its value."""
    return cases().map(lambda case: replace(case, selection=replace(case.selection, group_by=None)))


@st.composite
def opened(draw: st.DrawFn, case: Case) -> list[Opened]:
    """All metrics asked of one past, by policies of any kind."""
    policies = [*((skip, Reentry.FIRST) for skip in Skip), (Skip.IMPLIED, Reentry.EVERY)]
    return [
        _funnel(case, *draw(st.sampled_from(policies))),
        _time_in_stage(
            case, draw(st.sampled_from(VisitPopulation)), draw(st.sampled_from(VisitReentry))
        ),
        _cycle_time(case, draw(st.sampled_from(DealPopulation))),
        _win_rate(case),
        _loss_reasons(case),
        _snapshot(replace(case, selection=replace(case.selection, start=None, end=None))),
        _flow(case),
        _matrix(case),
    ]


def _funnel(case: Case, skip: Skip, reentry: Reentry) -> Opened:
    ranking = case.ranking
    deals = funnel.cohort(case.deals, case.selection).get(None, [])
    ranks = funnel.measure(
        ranking,
        funnel.tallies(deals),
        observed=funnel.observed_steps(ranking, deals) if skip is Skip.OBSERVED else None,
        visits=funnel.visit_steps(ranking, deals) if reentry is Reentry.EVERY else None,
    )
    answer = funnel_schemas.FunnelFigures.of(ranks, ranking).model_dump()
    counts = dict(_counts(answer))
    for undone in ("ever_won", "won_undone"):
        last = answer["stages"][-1]
        del counts[f"{undone}.{_key(last)}"]
        counts[undone] = last[undone]
    return Opened(case, cell_names.funnel_cells(ranking, skip, reentry), counts)


def _time_in_stage(case: Case, population: VisitPopulation, reentry: VisitReentry) -> Opened:
    found = stage_time.measure(
        case.ranking, case.deals, case.selection, population, reentry, case.now
    )
    answer = outcomes.TimeInStageFigures.of(found.get(None, {}), case.ranking)
    names = cell_names.time_in_stage_cells(case.ranking, population, reentry)
    return Opened(case, names, dict(_counts(answer.model_dump())))


def _cycle_time(case: Case, population: DealPopulation) -> Opened:
    found = closings.cycle_times(case.deals, case.selection, population)
    answer = outcomes.CycleTimeFigures.of(found.get(None, {}), case.ranking).model_dump()
    names = cell_names.cycle_time_cells(case.ranking, population)
    return Opened(case, names, dict(_counts(answer)))


def _win_rate(case: Case) -> Opened:
    found = closings.win_rates(case.deals, case.selection).get(None, WinRate())
    answer = outcomes.WinRateFigures.of(found, case.ranking).model_dump()
    return Opened(case, cell_names.win_rate_cells(case.ranking), dict(_counts(answer)))


def _loss_reasons(case: Case) -> Opened:
    found = closings.losses(case.deals, case.selection).get(None, [])
    answer = outcomes.LossReasonFigures.of(found, case.ranking).model_dump()
    counts = {"deals": answer["deals"]}
    # Beside `deals`, a share tells the same number, and that of the line above.
    counts |= {f"reasons.{line['reason'] or NONE}": line["deals"] for line in answer["reasons"]}
    for stage in answer["stages"]:
        counts[f"deals.{_key(stage)}"] = stage["deals"]
        for line in stage["reasons"]:
            counts[f"deals.{_key(stage)}.{line['reason'] or NONE}"] = line["deals"]
    return Opened(case, cell_names.loss_reason_cells(case.ranking), counts)


def _snapshot(case: Case) -> Opened:
    found = snapshot.measure(case.ranking, case.deals, case.selection, case.now)
    answer = funnel_schemas.SnapshotFigures.of(found.get(None, {}), case.ranking).model_dump()
    counts = {}
    for stage in answer["stages"]:
        for place, bucket in enumerate(stage.pop("age_buckets") or ()):
            counts[f"age_buckets.{stage['key']}.{place}"] = bucket["deals"]
    counts |= dict(_counts(answer))
    return Opened(case, cell_names.snapshot_cells(case.ranking), counts)


def _flow(case: Case) -> Opened:
    found = flow.measure(case.deals, case.selection)
    answer = flow_schemas.FlowFigures.of(found.get(None, {}), case.ranking).model_dump()
    return Opened(case, cell_names.flow_cells(case.ranking), dict(_counts(answer)))


def _matrix(case: Case) -> Opened:
    found = flow.moves(case.deals, case.selection)
    answer = flow_schemas.MatrixFigures.of(found.get(None, {}), case.ranking).model_dump()
    # A deal that is handed off keeps its stage: nothing moves from a stage to itself.
    counts = {f"count.{stage.key}.{stage.key}": 0 for stage in case.ranking.latest.stages}
    for cell in answer["cells"]:
        where = f"{cell['from_stage']}.{cell['to_stage'] or HANDED_OFF}"
        counts[f"count.{where}"] = cell["count"]
        counts[f"share.{where}"] = cell["share"]["count"]
        counts[f"share.{where}.of"] = cell["share"]["of"]
    return Opened(case, cell_names.matrix_cells(case.ranking), counts)


def opened_by_bucket(case: Case, by: By) -> Opened:
    """The cumulative flow of a case whose period begins somewhere."""
    bounds = cumulative_flow.boundaries(case.selection, by)
    found = cumulative_flow.measure(case.ranking, case.deals, case.selection, by)
    flows = found.get(None, cumulative_flow.nothing(bounds))
    answer = cumulative_schemas.CumulativeFlowFigures.of(flows, case.ranking).model_dump()
    counts = {"in_progress_at_start": answer["in_progress_at_start"]}
    for place, bucket in enumerate(answer["buckets"]):
        counts |= {f"{name}.{place}": count for name, count in _counts(bucket)}
    return Opened(case, cell_names.cumulative_flow_cells(case.ranking, bounds), counts)


def _counts(figures: dict[str, Any], where: str = "") -> Iterator[tuple[str, int]]:
    """The whole numbers of an answer, by the names that their fields and stages give them."""
    for name, value in figures.items():
        match value:
            case bool() | str() | float() | None:
                continue
            case int() if name not in PLACES:
                yield name + where, value
            case {"count": count, "of": of}:
                yield name + where, count
                yield f"{name}{where}.of", of
            case {"count": count} | {"cases": count}:
                yield name + where, count
            case list() if name == "stages":
                for stage in value:
                    yield from _counts(stage, f".{_key(stage)}")


def _key(stage: dict[str, Any]) -> str:
    """What a stage is called in the name of a cell."""
    if stage["key"] is not None:
        return str(stage["key"])
    return f"rank:{stage['rank']}" if "rank" in stage else NONE
