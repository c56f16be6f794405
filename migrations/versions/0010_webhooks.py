"""Webhooks: endpoints with their secrets, deliveries in each one's own sequence, and every attempt."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: None = None
depends_on: None = None

WORKSPACE = "(SELECT nullif(current_setting('app.workspace_id', true), '')::uuid)"
INSTANT = sa.DateTime(timezone=True)
TEXTS = postgresql.ARRAY(sa.Text())
GRANTS = (
    ("webhook_endpoint", "SELECT, INSERT, UPDATE, DELETE"),
    ("webhook_secret", "SELECT, INSERT, DELETE, UPDATE (expires_at)"),
    (
        "webhook_delivery",
        "SELECT, INSERT, UPDATE (state, attempts, next_attempt_at, finished_at)",
    ),
    ("webhook_attempt", "SELECT, INSERT, UPDATE (response)"),
)
# Jobs ask which endpoints have events to be told of or deliveries that are due, and clear away
# what is old: of an event they see its place and nothing of what it says.
GRANTS_OF_JOBS = (
    (
        "webhook_endpoint",
        "SELECT (workspace_id, endpoint_id, disabled_at, failing_since, epoch, xid, n)",
    ),
    (
        "webhook_delivery",
        "SELECT (workspace_id, endpoint_id, sequence, state, next_attempt_at, finished_at), DELETE",
    ),
    ("webhook_attempt", "SELECT (workspace_id, endpoint_id, sequence), DELETE"),
    ("webhook_secret", "SELECT (expires_at), DELETE"),
    ("event", "SELECT (workspace_id, epoch, xid, n)"),
)


class TransactionId(sa.types.UserDefinedType[int]):
    def get_col_spec(self, **_: object) -> str:
        return "xid8"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "webhook_endpoint",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("types", TEXTS, nullable=False),
        sa.Column("pipeline_id", sa.Uuid(), nullable=True),
        sa.Column("stages", TEXTS, nullable=False),
        sa.Column("include_historical", sa.Boolean(), nullable=False),
        sa.Column("disabled_at", INSTANT, nullable=True),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("failing_since", INSTANT, nullable=True),
        sa.Column(
            "failed_deliveries", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("xid", TransactionId(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.CheckConstraint(
            "disabled_reason IN ('requested', 'gone', 'failing')",
            name=op.f("webhook_endpoint_disabled_reason_ck"),
        ),
        sa.CheckConstraint(
            "(disabled_at IS NULL) = (disabled_reason IS NULL)",
            name=op.f("webhook_endpoint_disabled_ck"),
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id", "pipeline_id"],
            ["pipeline.workspace_id", "pipeline.pipeline_id"],
            name="webhook_endpoint_pipeline_fk",
        ),
        sa.PrimaryKeyConstraint("workspace_id", "endpoint_id", name="webhook_endpoint_pk"),
    )
    op.create_table(
        "webhook_secret",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("secret_id", sa.Uuid(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", INSTANT, nullable=True),
        sa.ForeignKeyConstraint(
            ["workspace_id", "endpoint_id"],
            ["webhook_endpoint.workspace_id", "webhook_endpoint.endpoint_id"],
            name="webhook_secret_webhook_endpoint_fk",
        ),
        sa.PrimaryKeyConstraint(
            "workspace_id", "endpoint_id", "secret_id", name="webhook_secret_pk"
        ),
    )
    op.create_table(
        "webhook_delivery",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("xid", TransactionId(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_attempt_at", INSTANT, nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT, nullable=True),
        sa.Column("replay_of", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'delivered', 'failed')", name=op.f("webhook_delivery_state_ck")
        ),
        sa.CheckConstraint(
            "(state = 'pending') = (next_attempt_at IS NOT NULL)",
            name=op.f("webhook_delivery_next_attempt_ck"),
        ),
        sa.CheckConstraint(
            "(state = 'pending') = (finished_at IS NULL)",
            name=op.f("webhook_delivery_finished_ck"),
        ),
        sa.PrimaryKeyConstraint(
            "workspace_id", "endpoint_id", "sequence", name="webhook_delivery_pk"
        ),
    )
    op.create_index(
        "webhook_delivery_due_ix",
        "webhook_delivery",
        ["workspace_id", "endpoint_id", "next_attempt_at", "sequence"],
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "webhook_delivery_finished_ix",
        "webhook_delivery",
        ["workspace_id", "finished_at"],
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
    op.create_index("webhook_delivery_event_ix", "webhook_delivery", ["workspace_id", "event_id"])
    op.create_table(
        "webhook_attempt",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("response", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["workspace_id", "endpoint_id", "sequence"],
            [
                "webhook_delivery.workspace_id",
                "webhook_delivery.endpoint_id",
                "webhook_delivery.sequence",
            ],
            name="webhook_attempt_webhook_delivery_fk",
        ),
        sa.PrimaryKeyConstraint(
            "workspace_id", "endpoint_id", "sequence", "number", name="webhook_attempt_pk"
        ),
    )
    for table, privileges in GRANTS:
        op.execute(f"GRANT {privileges} ON {table} TO sluice_app")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY {table}_of_workspace ON {table} TO sluice_app "
            f"USING (workspace_id = {WORKSPACE}) WITH CHECK (workspace_id = {WORKSPACE})"
        )
    for table, privileges in GRANTS_OF_JOBS:
        op.execute(f"GRANT {privileges} ON {table} TO sluice_jobs")
        shown = "expires_at IS NOT NULL" if table == "webhook_secret" else "true"
        op.execute(f"CREATE POLICY {table}_for_jobs ON {table} TO sluice_jobs USING ({shown})")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP POLICY event_for_jobs ON event")
    op.execute("REVOKE SELECT (workspace_id, epoch, xid, n) ON event FROM sluice_jobs")
    for table in ("webhook_attempt", "webhook_delivery", "webhook_secret", "webhook_endpoint"):
        op.drop_table(table)
