"""What a deal's row needs to answer for T, and indexes that hold all that metrics ask of it.

The row says when a fact changed last and, where facts changed after the close, what that froze.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: None = None
depends_on: None = None

PLACE = ["workspace_id", "pipeline_id"]
BORNE = ["owner", "team", "source", "priority"]
WORTH = ["amount", "currency"]
VISIT = "voided_at IS NULL AND entered_at IS NOT NULL"

# By name: table, what follows the place in the key, what is held besides, of which rows.
CHANGED: dict[str, tuple[str, str, list[str], str | None]] = {
    "opportunity_entered_ix": (
        "opportunity",
        "stage_entered_at",
        ["opportunity_id", "opened_at", "closed_at"],
        None,
    ),
    "opportunity_opened_ix": (
        "opportunity",
        "opened_at",
        [
            "opportunity_id",
            "stage_entered_at",
            "closed_at",
            "status",
            "slot",
            "reach_mask",
            *WORTH,
            "facts_changed_at",
            *BORNE,
        ],
        "closed_facts IS NULL",
    ),
    "opportunity_closed_ix": (
        "opportunity",
        "closed_at",
        [
            "opportunity_id",
            "opened_at",
            "stage_entered_at",
            "status",
            "dwell",
            *WORTH,
            "facts_changed_at",
            *BORNE,
        ],
        "closed_at IS NOT NULL AND closed_facts IS NULL",
    ),
    "transition_visit_ix": (
        "transition",
        "entered_at",
        ["from_slot", "occurred_at", *BORNE, "currency"],
        VISIT,
    ),
    "transition_left_ix": (
        "transition",
        "occurred_at",
        ["from_slot", "entered_at", "kind", "to_slot", *BORNE, "currency"],
        VISIT,
    ),
}
ADDED: dict[str, tuple[str, str, list[str], str]] = {
    "opportunity_open_ix": (
        "opportunity",
        "stage_entered_at",
        [
            "opportunity_id",
            "slot",
            "opened_at",
            "closed_at",
            "moved_at",
            *WORTH,
            "probability",
            "facts_changed_at",
            *BORNE,
        ],
        "status = 'open' AND closed_facts IS NULL",
    ),
    "opportunity_untold_ix": ("opportunity", "opened_at", [], "closed_facts = '{}'"),
    "opportunity_unsettled_ix": (
        "opportunity",
        "facts_changed_at",
        [],
        "closed_at IS NULL AND facts_changed_at IS NOT NULL",
    ),
    "transition_lost_ix": (
        "transition",
        "occurred_at",
        ["opportunity_id", "seq", "from_slot", "loss_reason"],
        "voided_at IS NULL AND loss_reason IS NOT NULL",
    ),
}
BEFORE: dict[str, tuple[str, str, list[str], str | None]] = {
    "opportunity_entered_ix": ("opportunity", "stage_entered_at", [], None),
    "opportunity_opened_ix": (
        "opportunity",
        "opened_at",
        ["opportunity_id", "stage_entered_at", "closed_at", "status", "reach_mask", *WORTH],
        None,
    ),
    "opportunity_closed_ix": (
        "opportunity",
        "closed_at",
        ["opportunity_id", "opened_at", "stage_entered_at", "status", "dwell", *WORTH],
        "closed_at IS NOT NULL",
    ),
    "transition_visit_ix": ("transition", "entered_at", ["from_slot", "occurred_at"], VISIT),
    "transition_left_ix": ("transition", "occurred_at", ["from_slot", "entered_at"], VISIT),
}


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    instant = sa.DateTime(timezone=True)
    op.add_column("opportunity", sa.Column("facts_changed_at", instant, nullable=True))
    told = postgresql.JSONB(none_as_null=True)
    op.add_column("opportunity", sa.Column("closed_facts", told, nullable=True))
    # An empty object: what the close froze is to be looked up in the log.
    op.execute(
        """
        UPDATE opportunity AS o SET facts_changed_at = c.changed_at,
            closed_facts = CASE WHEN c.changed_at >= o.closed_at THEN CAST('{}' AS jsonb) END
        FROM (SELECT workspace_id, opportunity_id, max(occurred_at) AS changed_at
              FROM opportunity_change GROUP BY workspace_id, opportunity_id) AS c
        WHERE o.workspace_id = c.workspace_id AND o.opportunity_id = c.opportunity_id
        """
    )
    _replace(CHANGED)
    for name, made in ADDED.items():
        _create(name, *made)
    op.create_index(
        "opportunity_kept_ix",
        "opportunity",
        [*PLACE, "opened_at", "closed_at"],
        postgresql_where=sa.text("closed_facts IS NOT NULL"),
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("opportunity_kept_ix", table_name="opportunity")
    for name, (table, *_) in ADDED.items():
        op.drop_index(name, table_name=table)
    _replace(BEFORE)
    op.drop_column("opportunity", "closed_facts")
    op.drop_column("opportunity", "facts_changed_at")


def _replace(indexes: dict[str, Any]) -> None:
    for name, made in indexes.items():
        op.drop_index(name, table_name=made[0])
        _create(name, *made)


def _create(name: str, table: str, instant: str, held: list[str], where: str | None) -> None:
    options: dict[str, Any] = {"postgresql_include": held} if held else {}
    if where is not None:
        options["postgresql_where"] = sa.text(where)
    op.create_index(name, table, [*PLACE, instant], **options)
