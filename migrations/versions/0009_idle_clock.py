"""The idle clock to the end: next steps, cadence, critical flags, and a record of the scans."""

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: None = None
depends_on: None = None

WORKSPACE = "(SELECT nullif(current_setting('app.workspace_id', true), '')::uuid)"
INSTANT = sa.DateTime(timezone=True)
ADDED = (
    *(("opportunity", name, INSTANT) for name in ("next_step_at", "next_step_planned_at")),
    ("opportunity", "next_step", sa.Text()),
    *(
        ("opportunity", name, INSTANT)
        for name in ("critical_at", "escalated_at", "follow_up_due_at")
    ),
    ("idle_flag", "escalated_at", INSTANT),
    *(("activity", name, sa.Text()) for name in ("outcome", "next_step")),
    ("activity", "next_step_at", INSTANT),
)

# What the clocks of open deals say from now on: critical after twice the threshold, and the next
# follow-up by the stage's cadence. Without calendars, which no revision had, a day is 24 hours.
CLOCKS = """
UPDATE opportunity AS o SET
    critical_at = CASE WHEN o.goes_idle_at IS NOT NULL THEN
        greatest(o.clock_started_at + 2 * CAST({threshold} AS interval), o.goes_idle_at) END,
    follow_up_due_at = greatest(o.moved_at, o.last_activity_at)
        + CAST(stage ->> 'follow_up_every' AS interval)
FROM pipeline AS p
JOIN pipeline_revision AS r ON r.workspace_id = p.workspace_id AND r.pipeline_id = p.pipeline_id
    AND r.revision = p.revision
CROSS JOIN LATERAL jsonb_array_elements(r.document -> 'stages') AS stage
WHERE o.workspace_id = p.workspace_id AND o.pipeline_id = p.pipeline_id AND o.status = 'open'
    AND p.archived_at IS NULL AND o.slot = CAST(stage ->> 'slot' AS int)
    AND (o.goes_idle_at IS NOT NULL OR stage ->> 'follow_up_every' IS NOT NULL)
"""
THRESHOLD = """
CASE WHEN stage -> 'idle' -> 'after_by_priority' ? o.priority
    THEN stage -> 'idle' -> 'after_by_priority' ->> o.priority
    ELSE stage -> 'idle' ->> 'after' END
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL TimeZone = 'UTC'")
    for table, name, type_ in ADDED:
        op.add_column(table, sa.Column(name, type_, nullable=True))
    op.execute(CLOCKS.format(threshold=THRESHOLD))
    op.create_index(
        "opportunity_escalating_ix",
        "opportunity",
        ["workspace_id", "critical_at"],
        postgresql_where=sa.text("flagged_at IS NOT NULL AND escalated_at IS NULL"),
    )
    op.create_index(
        "opportunity_next_step_ix",
        "opportunity",
        ["workspace_id", "next_step_at"],
        postgresql_where=sa.text("next_step_at IS NOT NULL"),
    )
    op.create_index(
        "opportunity_follow_up_ix",
        "opportunity",
        ["workspace_id", "follow_up_due_at", "opportunity_id"],
        postgresql_where=sa.text("follow_up_due_at IS NOT NULL"),
    )
    op.create_table(
        "idle_scan",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("scan_id", sa.Uuid(), nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("flagged", sa.Integer(), nullable=False),
        sa.Column("escalated", sa.Integer(), nullable=False),
        sa.Column("lag_seconds", sa.Double(), nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("workspace_id", "scan_id", name="idle_scan_pk"),
    )
    op.create_index("idle_scan_time_ix", "idle_scan", ["workspace_id", "started_at"])
    op.execute("ALTER TABLE idle_scan ENABLE ROW LEVEL SECURITY")
    op.execute("GRANT SELECT, INSERT ON idle_scan TO sluice_app")
    op.execute(
        "CREATE POLICY idle_scan_of_workspace ON idle_scan TO sluice_app "
        f"USING (workspace_id = {WORKSPACE}) WITH CHECK (workspace_id = {WORKSPACE})"
    )
    # Jobs clear away what is old, and ask where flags are about to be critical.
    op.execute("GRANT SELECT, DELETE ON idle_scan TO sluice_jobs")
    op.execute("CREATE POLICY idle_scan_for_jobs ON idle_scan TO sluice_jobs USING (true)")
    op.execute("GRANT SELECT (critical_at, escalated_at) ON opportunity TO sluice_jobs")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("REVOKE SELECT (critical_at, escalated_at) ON opportunity FROM sluice_jobs")
    op.drop_table("idle_scan")
    op.drop_index("opportunity_follow_up_ix", table_name="opportunity")
    op.drop_index("opportunity_next_step_ix", table_name="opportunity")
    op.drop_index("opportunity_escalating_ix", table_name="opportunity")
    for table, name, _ in reversed(ADDED):
        op.drop_column(table, name)
