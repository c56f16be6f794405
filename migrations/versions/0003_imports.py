"""Imports: the job, the file as it was sent, its staged rows, the remarks on them; their walls."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: None = None
depends_on: None = None

TABLES = ("import_job", "import_chunk", "import_row", "import_remark")
WORKSPACE = "(SELECT nullif(current_setting('app.workspace_id', true), '')::uuid)"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "import_row",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("import_id", sa.Uuid(), nullable=False),
        sa.Column("deal", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("line", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ordinal", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=True),
        sa.Column("activity", sa.Text(), nullable=True),
        sa.Column("loss_reason", sa.Text(), nullable=True),
        sa.Column(
            "says", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True
        ),
        sa.Column("raw", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint(
            "workspace_id",
            "import_id",
            "deal",
            "occurred_at",
            "sequence",
            "line",
            "ordinal",
            name=op.f("import_row_pk"),
        ),
    )
    op.create_table(
        "import_job",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("import_id", sa.Uuid(), nullable=False),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column(
            "mapping", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False
        ),
        sa.Column("on_error", sa.Text(), nullable=False),
        sa.Column("on_conflict", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("lease_id", sa.Uuid(), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("bytes_total", sa.BigInteger(), nullable=False),
        sa.Column("bytes_read", sa.BigInteger(), nullable=False),
        sa.Column("records_read", sa.BigInteger(), nullable=False),
        sa.Column("rows_staged", sa.BigInteger(), nullable=False),
        sa.Column("rows_done", sa.BigInteger(), nullable=False),
        sa.Column("done_through", sa.Text(), nullable=True),
        sa.Column(
            "counts", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False
        ),
        sa.CheckConstraint(
            "on_conflict IN ('reject', 'rewrite')", name=op.f("import_job_on_conflict_ck")
        ),
        sa.CheckConstraint("on_error IN ('skip', 'abort')", name=op.f("import_job_on_error_ck")),
        sa.CheckConstraint(
            "state IN ('receiving', 'pending', 'staging', 'checking', 'appending', 'completed', 'aborted', 'failed')",
            name=op.f("import_job_state_ck"),
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id", "pipeline_id"],
            ["pipeline.workspace_id", "pipeline.pipeline_id"],
            name=op.f("import_job_pipeline_fk"),
        ),
        sa.PrimaryKeyConstraint("workspace_id", "import_id", name=op.f("import_job_pk")),
    )
    op.create_index(
        "import_job_unfinished_ix",
        "import_job",
        ["workspace_id", "import_id"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "import_chunk",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("import_id", sa.Uuid(), nullable=False),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["workspace_id", "import_id"],
            ["import_job.workspace_id", "import_job.import_id"],
            name=op.f("import_chunk_import_job_fk"),
        ),
        sa.PrimaryKeyConstraint("workspace_id", "import_id", "n", name=op.f("import_chunk_pk")),
    )
    op.create_table(
        "import_remark",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("import_id", sa.Uuid(), nullable=False),
        sa.Column("line", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("ordinal", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("column_name", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("raw", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "severity IN ('rejected', 'warning')", name=op.f("import_remark_severity_ck")
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id", "import_id"],
            ["import_job.workspace_id", "import_job.import_id"],
            name=op.f("import_remark_import_job_fk"),
        ),
        sa.PrimaryKeyConstraint(
            "workspace_id",
            "import_id",
            "line",
            "severity",
            "ordinal",
            name=op.f("import_remark_pk"),
        ),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE ON import_job TO sluice_app")
    op.execute("GRANT SELECT, INSERT, DELETE ON import_chunk, import_row TO sluice_app")
    op.execute("GRANT SELECT, INSERT ON import_remark TO sluice_app")
    op.execute("GRANT SELECT ON import_job TO sluice_jobs")
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY {table}_of_workspace ON {table} TO sluice_app "
            f"USING (workspace_id = {WORKSPACE}) WITH CHECK (workspace_id = {WORKSPACE})"
        )
    # Jobs ask in which workspaces an import waits to be run.
    op.execute(
        "CREATE POLICY import_job_for_jobs ON import_job FOR SELECT TO sluice_jobs "
        "USING (finished_at IS NULL)"
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in reversed(TABLES):
        op.drop_table(table)
