"""Who sees what: row scopes and use of keys, keys of the platform, endpoints' sight, the audit log.

Segments come to tell each deal's present owner and team. What is folded already tells neither, so
every segment is marked to be written anew, which the service does in the background; until then
whoever sees only some deals has them counted by SQL.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: None = None
depends_on: None = None

INSTANT = sa.DateTime(timezone=True)
WORKSPACE = "(SELECT nullif(current_setting('app.workspace_id', true), '')::uuid)"
SIGHT = "row_scope IN ('own', 'team', 'all')"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    # What was made before sees what it has always seen; the application says it of all others.
    for table in ("api_key", "webhook_endpoint"):
        op.add_column(
            table, sa.Column("row_scope", sa.Text(), server_default="all", nullable=False)
        )
        op.alter_column(table, "row_scope", server_default=None)
        op.add_column(table, sa.Column("team", sa.Text(), nullable=True))
        op.create_check_constraint(op.f(f"{table}_row_scope_ck"), table, SIGHT)
    op.add_column("webhook_endpoint", sa.Column("subject", sa.Text(), nullable=True))
    op.create_check_constraint(
        op.f("webhook_endpoint_subject_ck"),
        "webhook_endpoint",
        "row_scope = 'all' OR subject IS NOT NULL",
    )

    op.add_column(
        "api_key", sa.Column("version", sa.BigInteger(), server_default="1", nullable=False)
    )
    op.alter_column("api_key", "version", server_default=None)
    op.add_column("api_key", sa.Column("last_used_at", INSTANT, nullable=True))
    op.add_column("api_key", sa.Column("replaced_by", sa.Text(), nullable=True))
    op.alter_column("api_key", "workspace_id", nullable=True)
    op.create_check_constraint(
        op.f("api_key_platform_ck"),
        "api_key",
        "(workspace_id IS NULL) = (scopes = ARRAY['platform'])",
    )
    op.execute(
        "GRANT UPDATE (version, expires_at, last_used_at, replaced_by) ON api_key TO sluice_app"
    )
    # Keys of the platform belong to no workspace: the jobs' role, which looks across them, keeps
    # them, and sees no others.
    op.execute("GRANT SELECT, INSERT ON api_key TO sluice_jobs")
    op.execute(
        "GRANT UPDATE (version, expires_at, last_used_at, replaced_by, revoked_at)"
        " ON api_key TO sluice_jobs"
    )
    op.execute(
        "CREATE POLICY api_key_of_platform ON api_key TO sluice_jobs "
        "USING (workspace_id IS NULL) WITH CHECK (workspace_id IS NULL)"
    )

    op.create_table(
        "audit_entry",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("entry_id", sa.Uuid(), nullable=False),
        sa.Column("recorded_at", INSTANT, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("before", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("after", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspace.workspace_id"], name="audit_entry_workspace_fk"
        ),
        sa.PrimaryKeyConstraint("workspace_id", "entry_id", name="audit_entry_pk"),
    )
    op.create_index(
        "audit_entry_workspace_id_target_entry_id_ix",
        "audit_entry",
        ["workspace_id", "target", "entry_id"],
    )
    op.execute("GRANT SELECT, INSERT ON audit_entry TO sluice_app")
    op.execute("ALTER TABLE audit_entry ENABLE ROW LEVEL SECURITY")
    op.execute(
        "CREATE POLICY audit_entry_of_workspace ON audit_entry TO sluice_app "
        f"USING (workspace_id = {WORKSPACE}) WITH CHECK (workspace_id = {WORKSPACE})"
    )

    op.execute("UPDATE segment SET holds_erased = true")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_table("audit_entry")
    op.execute("DROP POLICY api_key_of_platform ON api_key")
    op.execute("DELETE FROM api_key WHERE workspace_id IS NULL")
    op.execute("REVOKE SELECT, INSERT ON api_key FROM sluice_jobs")
    op.drop_constraint(op.f("api_key_platform_ck"), "api_key")
    op.alter_column("api_key", "workspace_id", nullable=False)
    # Before the columns go: PostgreSQL 15 keeps the grants on those that are dropped.
    op.execute(
        "REVOKE UPDATE (version, expires_at, last_used_at, replaced_by)"
        " ON api_key FROM sluice_app, sluice_jobs"
    )
    op.execute("REVOKE UPDATE (revoked_at) ON api_key FROM sluice_jobs")
    for column in ("replaced_by", "last_used_at", "version"):
        op.drop_column("api_key", column)
    op.drop_constraint(op.f("webhook_endpoint_subject_ck"), "webhook_endpoint")
    op.drop_column("webhook_endpoint", "subject")
    for table in ("api_key", "webhook_endpoint"):
        op.drop_constraint(op.f(f"{table}_row_scope_ck"), table)
        op.drop_column(table, "team")
        op.drop_column(table, "row_scope")
