"""Segments: deals and their visits once more, column by column, for metrics to count.

A deal is answered for by its segment as long as that bears the deal's version; every write of the
row makes the next one, so that nothing has to be told to the segment.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: None = None
depends_on: None = None

WORKSPACE = "(SELECT nullif(current_setting('app.workspace_id', true), '')::uuid)"
UNFOLDED = "segment_version IS DISTINCT FROM version"

# Readers of the feed keep their places: an event's id, type and position stay. An answer that
# tells of the deal was made after the deal; it bears the id in its body or in its location.
TRACES = """
    UPDATE event SET data = '{}' WHERE workspace_id = current_setting('app.workspace_id')::uuid
        AND opportunity_id = erased;
    DELETE FROM idempotency_record AS kept USING opportunity AS o
        WHERE o.workspace_id = current_setting('app.workspace_id')::uuid
        AND o.opportunity_id = erased AND kept.workspace_id = o.workspace_id
        AND kept.created_at >= o.created_at
        AND (position(convert_to(erased::text, 'UTF8') IN kept.body) > 0
             OR position(erased::text IN kept.location) > 0);"""
# Its place in the segment counts no more from now on. Every segment that ever held it, also at an
# earlier version or in a place that was lost, is written anew by the next folding, without it.
STRUCK = """
    UPDATE segment AS s SET gone = s.gone || int4send(o.segment_position)
        FROM opportunity AS o
        WHERE o.workspace_id = current_setting('app.workspace_id')::uuid
        AND o.opportunity_id = erased AND s.workspace_id = o.workspace_id
        AND s.segment_id = o.segment_id;
    UPDATE segment AS s SET holds_erased = true
        FROM opportunity AS o, segment_column AS c
        WHERE o.workspace_id = current_setting('app.workspace_id')::uuid
        AND o.opportunity_id = erased AND s.workspace_id = o.workspace_id
        AND s.pipeline_id = o.pipeline_id AND c.workspace_id = o.workspace_id
        AND c.segment_id = s.segment_id AND c.name = 'deal.opportunity_id'
        AND position(uuid_send(erased) IN c.data) > 0;"""
DELETIONS = "".join(
    f"""
    DELETE FROM {table} WHERE workspace_id = current_setting('app.workspace_id')::uuid
        AND opportunity_id = erased;"""
    for table in ("idle_flag", "activity", "opportunity_change", "transition", "opportunity")
)
# Runs as the owner, whom no policy holds: the workspace condition is the function's own.
ERASE = """
CREATE OR REPLACE FUNCTION erase_opportunity(erased uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $${}
$$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "segment",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("segment_id", sa.Uuid(), nullable=False),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("deals", sa.Integer(), nullable=False),
        sa.Column("visits", sa.Integer(), nullable=False),
        sa.Column("filled", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("gone", sa.LargeBinary(), server_default=sa.text("''"), nullable=False),
        sa.Column("holds_erased", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["workspace_id", "pipeline_id"],
            ["pipeline.workspace_id", "pipeline.pipeline_id"],
            name="segment_pipeline_fk",
        ),
        sa.PrimaryKeyConstraint("workspace_id", "segment_id", name="segment_pk"),
    )
    op.create_index("segment_pipeline_ix", "segment", ["workspace_id", "pipeline_id"])
    op.create_table(
        "segment_column",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("segment_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("meanings", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("least", sa.BigInteger(), nullable=True),
        sa.Column("most", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["workspace_id", "segment_id"],
            ["segment.workspace_id", "segment.segment_id"],
            name="segment_column_segment_fk",
        ),
        sa.PrimaryKeyConstraint("workspace_id", "segment_id", "name", name="segment_column_pk"),
    )
    # Read whole and often; what takes a tenth of the space takes ten times as long.
    op.execute("ALTER TABLE segment_column ALTER COLUMN data SET STORAGE EXTERNAL")
    for table, privileges in (
        ("segment", "SELECT, INSERT, DELETE, UPDATE (filled, gone, holds_erased)"),
        ("segment_column", "SELECT, INSERT, DELETE"),
    ):
        op.execute(f"GRANT {privileges} ON {table} TO sluice_app")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY {table}_of_workspace ON {table} TO sluice_app "
            f"USING (workspace_id = {WORKSPACE}) WITH CHECK (workspace_id = {WORKSPACE})"
        )
    op.add_column("opportunity", sa.Column("segment_id", sa.Uuid(), nullable=True))
    op.add_column("opportunity", sa.Column("segment_position", sa.Integer(), nullable=True))
    op.add_column("opportunity", sa.Column("segment_version", sa.BigInteger(), nullable=True))
    op.create_index(
        "opportunity_unfolded_ix",
        "opportunity",
        ["workspace_id", "pipeline_id", "opened_at"],
        postgresql_include=["segment_id", "segment_position"],
        postgresql_where=sa.text(UNFOLDED),
    )
    op.create_index(
        "opportunity_untold_unfolded_ix",
        "opportunity",
        ["workspace_id", "pipeline_id"],
        postgresql_where=sa.text("closed_facts = '{}' AND " + UNFOLDED),
    )
    # Jobs ask which pipelines have deals to fold, and which segments to write anew.
    op.execute("GRANT SELECT (workspace_id, pipeline_id, key) ON pipeline TO sluice_jobs")
    op.execute("GRANT SELECT (pipeline_id, version, segment_version) ON opportunity TO sluice_jobs")
    op.execute(
        "GRANT SELECT (workspace_id, pipeline_id, deals, filled, holds_erased) ON segment TO sluice_jobs"
    )
    for table, policy, shown in (
        ("pipeline", "pipeline_for_jobs", "true"),
        ("opportunity", "opportunity_unfolded_for_jobs", UNFOLDED),
        ("segment", "segment_for_jobs", "holds_erased OR filled < deals"),
    ):
        op.execute(f"CREATE POLICY {policy} ON {table} FOR SELECT TO sluice_jobs USING ({shown})")
    op.execute(ERASE.format(TRACES + STRUCK + DELETIONS))


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(ERASE.format(TRACES + DELETIONS))
    op.execute("DROP POLICY opportunity_unfolded_for_jobs ON opportunity")
    op.execute("DROP POLICY pipeline_for_jobs ON pipeline")
    op.execute("REVOKE SELECT (workspace_id, pipeline_id, key) ON pipeline FROM sluice_jobs")
    op.execute(
        "REVOKE SELECT (pipeline_id, version, segment_version) ON opportunity FROM sluice_jobs"
    )
    op.drop_index("opportunity_untold_unfolded_ix", table_name="opportunity")
    op.drop_index("opportunity_unfolded_ix", table_name="opportunity")
    for column in ("segment_id", "segment_position", "segment_version"):
        op.drop_column("opportunity", column)
    op.drop_table("segment_column")
    op.drop_table("segment")
