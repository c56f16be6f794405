"""Indexes from which metrics are answered: covering, by the instant that a period asks for."""

from alembic import op
from sqlalchemy import text

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: None = None
depends_on: None = None

VISITS = text("voided_at IS NULL AND entered_at IS NOT NULL")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("opportunity_opened_ix", table_name="opportunity")
    op.create_index(
        "opportunity_opened_ix",
        "opportunity",
        ["workspace_id", "pipeline_id", "opened_at"],
        postgresql_include=[
            "opportunity_id",
            "stage_entered_at",
            "closed_at",
            "status",
            "reach_mask",
            "amount",
            "currency",
        ],
    )
    op.create_index(
        "opportunity_closed_ix",
        "opportunity",
        ["workspace_id", "pipeline_id", "closed_at"],
        postgresql_include=[
            "opportunity_id",
            "opened_at",
            "stage_entered_at",
            "status",
            "dwell",
            "amount",
            "currency",
        ],
        postgresql_where=text("closed_at IS NOT NULL"),
    )
    op.create_index(
        "opportunity_entered_ix",
        "opportunity",
        ["workspace_id", "pipeline_id", "stage_entered_at"],
    )
    op.drop_index("transition_visit_ix", table_name="transition")
    op.create_index(
        "transition_visit_ix",
        "transition",
        ["workspace_id", "pipeline_id", "entered_at"],
        postgresql_include=["from_slot", "occurred_at"],
        postgresql_where=VISITS,
    )
    op.create_index(
        "transition_left_ix",
        "transition",
        ["workspace_id", "pipeline_id", "occurred_at"],
        postgresql_include=["from_slot", "entered_at"],
        postgresql_where=VISITS,
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("transition_left_ix", table_name="transition")
    op.drop_index("transition_visit_ix", table_name="transition")
    op.create_index(
        "transition_visit_ix",
        "transition",
        ["workspace_id", "pipeline_id", "from_slot", "entered_at"],
    )
    op.drop_index("opportunity_entered_ix", table_name="opportunity")
    op.drop_index("opportunity_closed_ix", table_name="opportunity")
    op.drop_index("opportunity_opened_ix", table_name="opportunity")
    op.create_index(
        "opportunity_opened_ix",
        "opportunity",
        ["workspace_id", "pipeline_id", "opened_at"],
    )
