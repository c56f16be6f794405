"""Every table and index of the first version."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


class TransactionId(sa.types.UserDefinedType[int]):
    """PostgreSQL's xid8."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "xid8"


def upgrade() -> None:
    op.create_table(
        "epoch",
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("epoch", name=op.f("epoch_pk")),
    )
    op.create_index(op.f("epoch_cluster_ix"), "epoch", ["cluster"], unique=True)
    op.create_table(
        "event",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(
            "xid", TransactionId(), server_default=sa.text("pg_current_xact_id()"), nullable=False
        ),
        sa.Column("n", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("pipeline_id", sa.Uuid(), nullable=True),
        sa.Column("opportunity_id", sa.Uuid(), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "recorded_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("historical", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "data", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False
        ),
        sa.PrimaryKeyConstraint("workspace_id", "epoch", "xid", "n", name=op.f("event_pk")),
    )
    op.create_index(
        "event_pipeline_ix",
        "event",
        ["workspace_id", "pipeline_id", "epoch", "xid", "n"],
        unique=False,
    )
    op.create_table(
        "idempotency_record",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("location", sa.Text(), nullable=True),
        sa.Column("etag", sa.Text(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("workspace_id", "key", name=op.f("idempotency_record_pk")),
    )
    op.create_table(
        "installation",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("installation_pk")),
    )
    op.create_table(
        "tombstone",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("opportunity_id", sa.Uuid(), nullable=False),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "opportunity_id", name=op.f("tombstone_pk")),
    )
    op.create_table(
        "workspace",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", name=op.f("workspace_pk")),
    )
    op.create_index(op.f("workspace_key_ix"), "workspace", ["key"], unique=True)
    op.create_table(
        "api_key",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspace.workspace_id"], name=op.f("api_key_workspace_fk")
        ),
        sa.PrimaryKeyConstraint("key_id", name=op.f("api_key_pk")),
    )
    op.create_index(
        op.f("api_key_workspace_id_key_id_ix"), "api_key", ["workspace_id", "key_id"], unique=False
    )
    op.create_table(
        "pipeline",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspace.workspace_id"], name=op.f("pipeline_workspace_fk")
        ),
        sa.PrimaryKeyConstraint("workspace_id", "pipeline_id", name=op.f("pipeline_pk")),
    )
    op.create_index(
        op.f("pipeline_workspace_id_key_ix"), "pipeline", ["workspace_id", "key"], unique=True
    )
    op.create_table(
        "opportunity",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("opportunity_id", sa.Uuid(), nullable=False),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("amount", sa.Numeric(precision=19, scale=4), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("probability", sa.Numeric(precision=5, scale=4), nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("team", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("priority", sa.Text(), nullable=True),
        sa.Column("tags", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column(
            "attributes", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False
        ),
        sa.Column("expected_close_on", sa.Date(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("stage_entered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reach_mask", sa.BigInteger(), nullable=False),
        sa.Column("dwell", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_activity_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("idle_rule_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("snoozed_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("clock_started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("clock_reset_by", sa.Text(), nullable=False),
        sa.Column("goes_idle_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("idle_flag_id", sa.Uuid(), nullable=True),
        sa.Column("flagged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("continues", sa.Uuid(), nullable=True),
        sa.Column("continued_as", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(status = 'open') = (closed_at IS NULL)", name=op.f("opportunity_closed_at_ck")
        ),
        sa.CheckConstraint(
            "status IN ('open', 'won', 'lost', 'handed_off')", name=op.f("opportunity_status_ck")
        ),
        sa.CheckConstraint(
            "amount IS NULL OR currency IS NOT NULL", name=op.f("opportunity_currency_ck")
        ),
        sa.CheckConstraint(
            "stage_entered_at >= opened_at", name=op.f("opportunity_entered_after_opened_ck")
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id", "pipeline_id"],
            ["pipeline.workspace_id", "pipeline.pipeline_id"],
            name=op.f("opportunity_pipeline_fk"),
        ),
        sa.PrimaryKeyConstraint("workspace_id", "opportunity_id", name=op.f("opportunity_pk")),
    )
    op.create_index(
        "opportunity_board_ix",
        "opportunity",
        ["workspace_id", "pipeline_id", "slot", "opportunity_id"],
        unique=False,
    )
    op.create_index(
        "opportunity_due_ix",
        "opportunity",
        ["workspace_id", "goes_idle_at"],
        unique=False,
        postgresql_where=sa.text("goes_idle_at IS NOT NULL AND flagged_at IS NULL"),
    )
    op.create_index(
        "opportunity_external_id_uq",
        "opportunity",
        ["workspace_id", "external_id"],
        unique=True,
        postgresql_where=sa.text("external_id IS NOT NULL"),
    )
    op.create_index(
        "opportunity_opened_ix",
        "opportunity",
        ["workspace_id", "pipeline_id", "opened_at"],
        unique=False,
    )
    op.create_index(
        "opportunity_updated_ix",
        "opportunity",
        ["workspace_id", "updated_at", "opportunity_id"],
        unique=False,
    )
    op.create_table(
        "pipeline_revision",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(
            "document", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False
        ),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("in_force_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["workspace_id", "pipeline_id"],
            ["pipeline.workspace_id", "pipeline.pipeline_id"],
            name=op.f("pipeline_revision_pipeline_fk"),
        ),
        sa.PrimaryKeyConstraint(
            "workspace_id", "pipeline_id", "revision", name=op.f("pipeline_revision_pk")
        ),
    )
    op.create_table(
        "activity",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("opportunity_id", sa.Uuid(), nullable=False),
        sa.Column("activity_id", sa.Uuid(), nullable=False),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("import_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(
            ["workspace_id", "opportunity_id"],
            ["opportunity.workspace_id", "opportunity.opportunity_id"],
            name=op.f("activity_opportunity_fk"),
        ),
        sa.PrimaryKeyConstraint(
            "workspace_id", "opportunity_id", "activity_id", name=op.f("activity_pk")
        ),
    )
    op.create_index(
        "activity_time_ix",
        "activity",
        ["workspace_id", "opportunity_id", "occurred_at", "activity_id"],
        unique=False,
    )
    op.create_table(
        "idle_flag",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("opportunity_id", sa.Uuid(), nullable=False),
        sa.Column("clock_started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("flag_id", sa.Uuid(), nullable=False),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("clock", sa.Text(), nullable=False),
        sa.Column("idle_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_by", sa.Text(), nullable=True),
        sa.Column("snoozed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("snoozed_by", sa.Text(), nullable=True),
        sa.Column("snoozed_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("snooze_reason", sa.Text(), nullable=True),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resolved_by", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["workspace_id", "opportunity_id"],
            ["opportunity.workspace_id", "opportunity.opportunity_id"],
            name=op.f("idle_flag_opportunity_fk"),
        ),
        sa.PrimaryKeyConstraint(
            "workspace_id", "opportunity_id", "clock_started_at", name=op.f("idle_flag_pk")
        ),
    )
    op.create_index("idle_flag_id_uq", "idle_flag", ["workspace_id", "flag_id"], unique=True)
    op.create_index(
        "idle_flag_open_ix",
        "idle_flag",
        ["workspace_id", "pipeline_id", "flag_id"],
        unique=False,
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.create_table(
        "opportunity_change",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("opportunity_id", sa.Uuid(), nullable=False),
        sa.Column("change_id", sa.Uuid(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("old", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("new", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["workspace_id", "opportunity_id"],
            ["opportunity.workspace_id", "opportunity.opportunity_id"],
            name=op.f("opportunity_change_opportunity_fk"),
        ),
        sa.PrimaryKeyConstraint(
            "workspace_id",
            "opportunity_id",
            "change_id",
            "field",
            name=op.f("opportunity_change_pk"),
        ),
    )
    op.create_index(
        "opportunity_change_time_ix",
        "opportunity_change",
        ["workspace_id", "pipeline_id", "occurred_at"],
        unique=False,
    )
    op.create_table(
        "transition",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("amount", sa.Numeric(precision=19, scale=4), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("probability", sa.Numeric(precision=5, scale=4), nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("team", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("priority", sa.Text(), nullable=True),
        sa.Column("opportunity_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("transition_id", sa.Uuid(), nullable=False),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("from_slot", sa.SmallInteger(), nullable=True),
        sa.Column("from_name", sa.Text(), nullable=True),
        sa.Column("entered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("to_slot", sa.SmallInteger(), nullable=False),
        sa.Column("to_name", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("loss_reason", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("override_reason", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("linked_id", sa.Uuid(), nullable=True),
        sa.Column("import_id", sa.Uuid(), nullable=True),
        sa.Column("voided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("voided_by", sa.Text(), nullable=True),
        sa.Column("void_reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(kind = 'opened') = (from_slot IS NULL)", name=op.f("transition_origin_ck")
        ),
        sa.CheckConstraint(
            "kind IN ('opened', 'advanced', 'skipped', 'regressed', 'sidestepped', 'won', 'lost', 'reopened', 'handed_off', 'rearranged')",
            name=op.f("transition_kind_ck"),
        ),
        sa.CheckConstraint("seq > 1 OR kind = 'opened'", name=op.f("transition_opening_ck")),
        sa.CheckConstraint(
            "entered_at IS NULL OR occurred_at >= entered_at", name=op.f("transition_time_ck")
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id", "opportunity_id"],
            ["opportunity.workspace_id", "opportunity.opportunity_id"],
            name=op.f("transition_opportunity_fk"),
        ),
        sa.PrimaryKeyConstraint(
            "workspace_id", "opportunity_id", "seq", name=op.f("transition_pk")
        ),
    )
    op.create_index(
        "transition_id_uq", "transition", ["workspace_id", "transition_id"], unique=True
    )
    op.create_index(
        "transition_visit_ix",
        "transition",
        ["workspace_id", "pipeline_id", "from_slot", "entered_at"],
        unique=False,
    )


def downgrade() -> None:
    op.drop_index("transition_visit_ix", table_name="transition")
    op.drop_index("transition_id_uq", table_name="transition")
    op.drop_table("transition")
    op.drop_index("opportunity_change_time_ix", table_name="opportunity_change")
    op.drop_table("opportunity_change")
    op.drop_index(
        "idle_flag_open_ix", table_name="idle_flag", postgresql_where=sa.text("resolved_at IS NULL")
    )
    op.drop_index("idle_flag_id_uq", table_name="idle_flag")
    op.drop_table("idle_flag")
    op.drop_index("activity_time_ix", table_name="activity")
    op.drop_table("activity")
    op.drop_table("pipeline_revision")
    op.drop_index("opportunity_updated_ix", table_name="opportunity")
    op.drop_index("opportunity_opened_ix", table_name="opportunity")
    op.drop_index(
        "opportunity_external_id_uq",
        table_name="opportunity",
        postgresql_where=sa.text("external_id IS NOT NULL"),
    )
    op.drop_index(
        "opportunity_due_ix",
        table_name="opportunity",
        postgresql_where=sa.text("goes_idle_at IS NOT NULL AND flagged_at IS NULL"),
    )
    op.drop_index("opportunity_board_ix", table_name="opportunity")
    op.drop_table("opportunity")
    op.drop_index(op.f("pipeline_workspace_id_key_ix"), table_name="pipeline")
    op.drop_table("pipeline")
    op.drop_index(op.f("api_key_workspace_id_key_id_ix"), table_name="api_key")
    op.drop_table("api_key")
    op.drop_index(op.f("workspace_key_ix"), table_name="workspace")
    op.drop_table("workspace")
    op.drop_table("tombstone")
    op.drop_table("installation")
    op.drop_table("idempotency_record")
    op.drop_index("event_pipeline_ix", table_name="event")
    op.drop_table("event")
    op.drop_index(op.f("epoch_cluster_ix"), table_name="epoch")
    op.drop_table("epoch")
