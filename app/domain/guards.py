"""Entry requirements: what a deal lacks before it may enter a stage.

The answer is a list that a form can show: where the value belongs, and what it must be. It is the
same list for every caller: for an opening, a single move, a batch and `next-stages`.
"""

from collections.abc import Mapping
from datetime import date
from typing import Any, Protocol

from app.domain import json_pointer
from app.domain.errors import Breach
from app.domain.journey import Facts
from app.domain.pipeline import Stage

REQUIRABLE = (
    *("amount", "expected_close_on", "external_id", "name", "owner"),
    *("priority", "probability", "source", "tags", "team"),
)
"""The fields of a deal that a definition may require, besides any under `/attributes/`."""


class Described(Protocol):
    """A deal that there is, or one that is to be opened, as far as a guard may look at it."""

    @property
    def name(self) -> str: ...
    @property
    def facts(self) -> Facts: ...
    @property
    def external_id(self) -> str | None: ...
    @property
    def tags(self) -> tuple[str, ...]: ...
    @property
    def attributes(self) -> Mapping[str, Any]: ...
    @property
    def expected_close_on(self) -> date | None: ...


def missing(stage: Stage, deal: Mapping[str, Any]) -> tuple[Breach, ...]:
    """What `deal`, seen as the JSON object of the API, lacks to enter `stage`.

    A value is missing when it is absent, null, or an empty string, list or object; zero and false
    are values.
    """
    return tuple(
        Breach(
            requirement.path,
            "required_by_stage",
            f"{stage.name} needs a value at {requirement.path}.",
        )
        for requirement in stage.entry_requirements
        if _is_missing(json_pointer.resolve(deal, requirement.path))
    )


def view(deal: Described) -> dict[str, Any]:
    """The deal as the API names its fields, as far as a guard may point into it."""
    facts = deal.facts
    return {
        "amount": facts.amount,
        "attributes": deal.attributes,
        "expected_close_on": deal.expected_close_on,
        "external_id": deal.external_id,
        "name": deal.name,
        "owner": facts.owner,
        "priority": facts.priority,
        "probability": facts.probability,
        "source": facts.source,
        "tags": deal.tags,
        "team": facts.team,
    }


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, (str, list, tuple, Mapping)) and len(value) == 0)
