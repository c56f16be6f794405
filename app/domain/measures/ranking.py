"""The order in which figures count stages: which rank each slot has in the revision asked for.

Ranks are never stored (metrics.md, Notation). The log may hold stages that the revision does not
know yet, because it is older than they are; their heirs are found in the latest one.
"""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from app.domain.journey import Status
from app.domain.pipeline import Pipeline, Stage, StageKind


@dataclass(frozen=True, slots=True)
class Ranking:
    """The revision that the figures are made by, and the latest, which knows every stage."""

    pipeline: Pipeline
    latest: Pipeline
    by_slot: Mapping[int, int] = field(init=False, repr=False, compare=False)
    """The rank of every slot that has one: 1…k on the path, k + 1 for each won stage."""
    won_mask: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        settle = object.__setattr__  # the frozen dataclass's one way to derive a field
        settle(self, "by_slot", MappingProxyType(dict(self._ranks())))
        settle(self, "won_mask", sum(1 << (slot - 1) for slot in self.slots(StageKind.WON)))

    @property
    def path(self) -> tuple[Stage, ...]:
        return self.pipeline.path

    @property
    def won_rank(self) -> int:
        return self.pipeline.won_rank

    def slots(self, kind: StageKind) -> tuple[int, ...]:
        """Every slot of the kind: a stage's kind never changes, so the latest revision tells."""
        return self.latest.slots(kind)

    def stage(self, slot: int) -> Stage:
        """The stage as the revision defines it, or as the latest does where it is too old."""
        return self.pipeline.by_slot.get(slot) or self.latest.by_slot[slot]

    def place(self, stage: Stage) -> int | None:
        """The stage's own place on the path; None where it only has its heir's rank, or none."""
        rank = self.by_slot.get(stage.slot)
        if rank is None or rank == self.won_rank:
            return rank
        return rank if self.path[rank - 1].slot == stage.slot else None

    def listed(self, found: Container[int]) -> list[Stage]:
        """The open stages that an answer shows: those in use, and others in which it found any."""
        return [stage for stage in self.shown(found) if stage.is_open]

    def shown(self, found: Container[int]) -> list[Stage]:
        """The stages of every kind that an answer shows, in order: `listed`, and closed ones."""
        own = self.pipeline.stages
        later = (stage for stage in self.latest.stages if stage.slot not in self.pipeline.by_slot)
        shown = [stage for stage in own if stage.archived_at is None or stage.slot in found]
        return [*shown, *(stage for stage in later if stage.slot in found)]

    def furthest(self, status: Status, reach_mask: int) -> int:
        """`r_i(T)`: the highest rank visited, at least 1; k + 1 if and only if the deal is won."""
        won_rank = self.won_rank
        if status is Status.WON:
            return won_rank
        visited = (
            rank
            for slot, rank in self.by_slot.items()
            if rank < won_rank and reach_mask >> (slot - 1) & 1
        )
        return max(visited, default=1)

    def _ranks(self) -> Iterator[tuple[int, int]]:
        yield from self.pipeline.rank_by_slot.items()
        for stage in self.latest.stages:
            if stage.slot in self.pipeline.by_slot:
                continue
            if stage.kind is StageKind.WON:
                yield stage.slot, self.won_rank
            elif stage.is_open and not stage.off_path:
                yield stage.slot, self._heir_rank(stage)

    def _heir_rank(self, stage: Stage) -> int:
        """The rank of the nearest heir that the revision ranks, else 1."""
        seen: set[int] = set()
        heir: Stage | None = stage
        while heir is not None and heir.slot not in seen:
            seen.add(heir.slot)
            rank = self.pipeline.rank_by_slot.get(heir.slot)
            if rank is not None:
                return rank
            heir = self._heir(heir)
        return 1

    def _heir(self, stage: Stage) -> Stage | None:
        if stage.succeeded_by:
            return self.latest.by_key.get(stage.succeeded_by[0])
        if stage.archived_at is not None:
            return self.latest.by_key.get(stage.preceded_by or "")
        rank = self.latest.rank_by_slot.get(stage.slot, 1)
        return self.latest.path[rank - 2] if rank > 1 else None
