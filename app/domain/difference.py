"""What changed between two revisions of a pipeline, in the words in which it is told to others."""

from dataclasses import dataclass, fields

from app.domain.pipeline import Pipeline, Stage

_OF_PIPELINE = ("name", "description", "timezone", "calendar", "qualifying", "flow", "moves")
_OF_STAGE = tuple(
    f.name for f in fields(Stage) if f.name not in {"archived_at", "succeeded_by", "preceded_by"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Names of the pipeline's fields that changed, and keys of stages to which something happened.

    `changed` lists stages that stayed in use with other terms; `reordered` is said of those that
    were in use before and after.
    """

    fields: tuple[str, ...]
    added: tuple[str, ...]
    changed: tuple[str, ...]
    archived: tuple[str, ...]
    restored: tuple[str, ...]
    reordered: bool


def difference(old: Pipeline, new: Pipeline) -> Difference:
    """What the step from `old` to `new` did."""
    before = {stage.key: stage for stage in old.stages if stage.archived_at is None}
    after = {stage.key: stage for stage in new.stages if stage.archived_at is None}
    stayed = [key for key in after if key in before]
    return Difference(
        fields=tuple(name for name in _OF_PIPELINE if getattr(old, name) != getattr(new, name)),
        added=tuple(key for key in after if key not in old.by_key),
        changed=tuple(key for key in stayed if _terms(before[key]) != _terms(after[key])),
        archived=tuple(key for key in before if key not in after),
        restored=tuple(key for key in after if key in old.by_key and key not in before),
        reordered=stayed != [key for key in before if key in after],
    )


def _terms(stage: Stage) -> tuple[object, ...]:
    return tuple(getattr(stage, name) for name in _OF_STAGE)
