"""Changes of one stage: added, changed, archived, split, merged, each as a whole new definition.

A `Restructuring` is what such a request comes to; `domain.definition` then judges it and makes the
revision. Here is only where stages go, which moves of a graph go with them, which lineage stays.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from app.domain.definition import Definition, definition_of
from app.domain.errors import Breach, InvalidDefinition
from app.domain.pipeline import Flow, Pipeline, Stage

Moves = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restructuring:
    """A definition to come, and what it means for what was there.

    `heirs` names what a split or merged stage became; `move_open_to` where the open deals of an
    archived stage go. `places` leads from a place in the definition to the one in the request that
    it came from, so that a breach points to what the caller sent.
    """

    definition: Definition
    heirs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    move_open_to: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)


def add(pipeline: Pipeline, stage: Stage, position: int | None) -> Restructuring:
    """A further stage at `position` (1 is the first); without one, an open stage goes to the end
    of the path and a closed one to the end.
    """
    present = definition_of(pipeline)
    if stage.key in (s.key for s in present.stages):
        raise InvalidDefinition(
            "The key is taken.",
            [Breach("/key", "duplicate", f"Another stage has the key {stage.key!r}.")],
        )
    stages = [*present.stages]
    if position is None and stage.is_open:
        last = pipeline.path[-1].key
        position = 2 + next(n for n, s in enumerate(stages) if s.key == last)
    return _placed(present, stages, stage, position or len(stages) + 1)


def change(
    pipeline: Pipeline, key: str, changed: Callable[[Stage], Stage], position: int | None
) -> Restructuring:
    """The stage as `changed` makes it, at another position if one is given."""
    present = definition_of(pipeline)
    place = next(n for n, s in enumerate(present.stages) if s.key == key)
    others = [s for s in present.stages if s.key != key]
    return _placed(present, others, changed(present.stages[place]), position or place + 1)


def archive(pipeline: Pipeline, key: str, move_open_to: str | None) -> Restructuring:
    """The pipeline without the stage."""
    present = definition_of(pipeline)
    return Restructuring(
        definition=replace(
            present,
            stages=tuple(s for s in present.stages if s.key != key),
            moves=tuple(move for move in present.moves if key not in move),
        ),
        move_open_to={} if move_open_to is None else {key: move_open_to},
        places={f"/move_open_to/{key}": "/move_open_to"},
    )


def split(
    pipeline: Pipeline, key: str, parts: Sequence[Stage], move_open_to: str | None
) -> Restructuring:
    """The stage's place is taken by its parts, in their order.

    In a graph each part has the moves of the whole, and leads on to the part after it. Raises
    InvalidDefinition where a part is of another kind than the whole, or is not new, or the open
    deals go to none of them.
    """
    present = definition_of(pipeline)
    whole = pipeline.stage(key)
    keys = tuple(part.key for part in parts)
    wrong = [
        Breach(f"/into/{n}/kind", "kind_differs", f"{key!r} is of the kind {whole.kind.value!r}.")
        for n, part in enumerate(parts)
        if part.kind is not whole.kind
    ] + [
        Breach(f"/into/{n}/key", "duplicate", f"The pipeline has a stage {part.key!r}.")
        for n, part in enumerate(parts)
        if part.key in pipeline.by_key
    ]
    if move_open_to is not None and move_open_to not in keys:
        wrong.append(Breach("/move_open_to", "unknown_stage", f"One of {', '.join(keys)}."))
    if wrong:
        raise InvalidDefinition(f"{key!r} cannot be split so.", wrong)
    place = next(n for n, s in enumerate(present.stages) if s.key == key)
    moves = _inherited(present.moves, {key: keys})
    if present.flow is Flow.GRAPH:
        moves |= set(pairwise(keys))
    return Restructuring(
        definition=replace(
            present,
            stages=(*present.stages[:place], *parts, *present.stages[place + 1 :]),
            moves=tuple(sorted(moves)),
        ),
        heirs={key: keys},
        move_open_to={} if move_open_to is None else {key: move_open_to},
        places={f"/stages/{place + n}": f"/into/{n}" for n in range(len(parts))}
        | {f"/move_open_to/{key}": "/move_open_to"},
    )


def merge(pipeline: Pipeline, keys: Sequence[str], into: str) -> Restructuring:
    """The stages become the one that is named, which takes their open deals and their moves.

    Raises InvalidDefinition where one is not in use or of another kind.
    """
    present = definition_of(pipeline)
    in_use = {stage.key: stage for stage in present.stages}
    named = [*((f"/stages/{n}", key) for n, key in enumerate(keys)), ("/into", into)]
    wrong = [
        Breach(at, "unknown_stage", f"The pipeline has no stage {key!r} in use.")
        for at, key in named
        if key not in in_use
    ]
    if not wrong:
        wrong = [
            Breach(at, "kind_differs", f"{into!r} is of the kind {in_use[into].kind.value!r}.")
            for at, key in named
            if in_use[key].kind is not in_use[into].kind
        ]
    gone = [key for key in dict.fromkeys(keys) if key != into]
    if not wrong and not gone:
        wrong = [Breach("/stages", "no_merge", f"Name a stage that goes into {into!r}.")]
    if wrong:
        raise InvalidDefinition("These stages cannot be merged so.", wrong)
    moves = _inherited(present.moves, dict.fromkeys(gone, (into,)))
    return Restructuring(
        definition=replace(
            present,
            stages=tuple(s for s in present.stages if s.key not in gone),
            moves=tuple(sorted(moves)),
        ),
        heirs=dict.fromkeys(gone, (into,)),
        move_open_to=dict.fromkeys(gone, into),
    )


def in_request(breach: Breach, places: Mapping[str, str]) -> Breach:
    """The breach at the place in the request that it came from, else of the whole body."""
    for place, sent in places.items():
        if breach.pointer == place or breach.pointer.startswith(f"{place}/"):
            return replace(breach, pointer=sent + breach.pointer.removeprefix(place))
    return replace(breach, pointer="")


def _placed(
    present: Definition, others: Sequence[Stage], stage: Stage, position: int
) -> Restructuring:
    before = min(position, len(others) + 1) - 1
    return Restructuring(
        definition=replace(present, stages=(*others[:before], stage, *others[before:])),
        places={f"/stages/{before}": ""},
    )


def _inherited(moves: Moves, heirs: Mapping[str, tuple[str, ...]]) -> set[tuple[str, str]]:
    """The moves, with heirs in the place of those who are gone; none leads to itself."""
    return {
        (origin, target)
        for start, end in moves
        for origin in heirs.get(start, (start,))
        for target in heirs.get(end, (end,))
        if origin != target
    }
