"""Every table of Sluice, on one page, in the words of the domain; each constraint has a name.

`workspace_id` leads every primary key, foreign key and index, so that the schema can be sharded by
workspace as it stands. Text with a CHECK stands for enums: row-level security can then still use
the indexes. Roles, grants and policies are the migrations' business, not this page's.
"""

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Named,
    Numeric,
    SmallInteger,
    Table,
    Text,
    TypedColumns,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine, UserDefinedType

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pk",
        "fk": "%(table_name)s_%(referred_table_name)s_fk",
        "uq": "%(table_name)s_%(column_0_N_name)s_uq",
        "ix": "%(table_name)s_%(column_0_N_name)s_ix",
        "ck": "%(table_name)s_%(constraint_name)s_ck",
    }
)

Instant = DateTime(timezone=True)
Json: TypeEngine[Any] = JSONB(none_as_null=True)
Amount = Numeric(19, 4)
Share = Numeric(5, 4)


class TransactionId(UserDefinedType[int]):
    """PostgreSQL's xid8: a transaction's 64-bit id, which never wraps round."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


def one_of(column: str, *values: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def within(table: str, *columns: str) -> ForeignKeyConstraint:
    """A reference inside the workspace: the same columns lead the other table's primary key."""
    own = ["workspace_id", *columns]
    return ForeignKeyConstraint(own, [f"{table}.{column}" for column in own])


class WorkspaceColumns(TypedColumns):
    workspace_id: Named[UUID] = Column(Uuid, primary_key=True)
    key: Named[str] = Column(Text)
    name: Named[str] = Column(Text)
    created_at: Named[datetime] = Column(Instant)


class ApiKeyColumns(TypedColumns):
    key_id: Named[str] = Column(Text, primary_key=True)
    workspace_id: Named[UUID | None] = Column(Uuid)  # null: a key of the platform
    secret_hash: Named[bytes] = Column(LargeBinary)
    name: Named[str] = Column(Text)
    subject: Named[str] = Column(Text)
    scopes: Named[list[str]] = Column(ARRAY(Text))
    created_at: Named[datetime] = Column(Instant)
    expires_at: Named[datetime | None] = Column(Instant)
    revoked_at: Named[datetime | None] = Column(Instant)
    row_scope: Named[str] = Column(Text)
    team: Named[str | None] = Column(Text)
    version: Named[int] = Column(BigInteger)
    last_used_at: Named[datetime | None] = Column(Instant)  # to the minute
    replaced_by: Named[str | None] = Column(Text)  # the key that a rotation made


class EpochColumns(TypedColumns):
    epoch: Named[int] = Column(Integer, primary_key=True, autoincrement=False)
    cluster: Named[str] = Column(Text)
    started_at: Named[datetime] = Column(Instant)


class InstallationColumns(TypedColumns):
    name: Named[str] = Column(Text, primary_key=True)
    value: Named[bytes] = Column(LargeBinary)


class Owned(TypedColumns):
    workspace_id: Named[UUID] = Column(Uuid, primary_key=True)


class AuditEntryColumns(Owned):
    entry_id: Named[UUID] = Column(Uuid, primary_key=True)
    recorded_at: Named[datetime] = Column(Instant)
    actor: Named[str] = Column(Text)
    key_id: Named[str | None] = Column(Text)  # null: who came with a token, or by command line
    action: Named[str] = Column(Text)
    target: Named[str] = Column(Text)
    before: Named[dict[str, Any] | None] = Column(Json)
    after: Named[dict[str, Any] | None] = Column(Json)


class PipelineColumns(Owned):
    pipeline_id: Named[UUID] = Column(Uuid, primary_key=True)
    key: Named[str] = Column(Text)
    revision: Named[int] = Column(Integer)
    created_at: Named[datetime] = Column(Instant)
    updated_at: Named[datetime] = Column(Instant)
    archived_at: Named[datetime | None] = Column(Instant)


class PipelineRevisionColumns(Owned):
    pipeline_id: Named[UUID] = Column(Uuid, primary_key=True)
    revision: Named[int] = Column(Integer, primary_key=True, autoincrement=False)
    document: Named[dict[str, Any]] = Column(Json)
    actor: Named[str] = Column(Text)
    in_force_at: Named[datetime] = Column(Instant)


class FactColumns(TypedColumns):
    """What a deal is, and what a transition freezes of it."""

    amount: Named[Decimal | None] = Column(Amount)
    currency: Named[str | None] = Column(Text)
    probability: Named[Decimal | None] = Column(Share)
    owner: Named[str | None] = Column(Text)
    team: Named[str | None] = Column(Text)
    source: Named[str | None] = Column(Text)
    priority: Named[str | None] = Column(Text)


class OpportunityColumns(FactColumns, Owned):
    opportunity_id: Named[UUID] = Column(Uuid, primary_key=True)
    pipeline_id: Named[UUID] = Column(Uuid)
    external_id: Named[str | None] = Column(Text)
    version: Named[int] = Column(BigInteger)
    name: Named[str] = Column(Text)
    tags: Named[list[str]] = Column(ARRAY(Text))
    attributes: Named[dict[str, Any]] = Column(Json)
    expected_close_on: Named[date | None] = Column(Date)
    facts_changed_at: Named[datetime | None] = Column(Instant)  # the last of opportunity_change
    closed_facts: Named[dict[str, Any] | None] = Column(Json)  # of its close, if others now
    # The projection of the log: domain.journey.Position
    status: Named[str] = Column(Text)
    slot: Named[int] = Column(SmallInteger)
    seq: Named[int] = Column(Integer)
    stage_entered_at: Named[datetime] = Column(Instant)
    opened_at: Named[datetime] = Column(Instant)
    closed_at: Named[datetime | None] = Column(Instant)
    reach_mask: Named[int] = Column(BigInteger)
    dwell: Named[list[int | None]] = Column(ARRAY(BigInteger))  # microseconds, by slot
    moved_at: Named[datetime] = Column(Instant)
    # The idle clock: domain.idleness
    last_activity_at: Named[datetime | None] = Column(Instant)
    idle_rule_since: Named[datetime | None] = Column(Instant)
    snoozed_until: Named[datetime | None] = Column(Instant)
    clock_started_at: Named[datetime] = Column(Instant)
    clock_reset_by: Named[str] = Column(Text)
    goes_idle_at: Named[datetime | None] = Column(Instant)
    critical_at: Named[datetime | None] = Column(Instant)
    follow_up_due_at: Named[datetime | None] = Column(Instant)
    next_step_at: Named[datetime | None] = Column(Instant)
    next_step_planned_at: Named[datetime | None] = Column(Instant)
    next_step: Named[str | None] = Column(Text)
    idle_flag_id: Named[UUID | None] = Column(Uuid)
    flagged_at: Named[datetime | None] = Column(Instant)
    escalated_at: Named[datetime | None] = Column(Instant)
    # Hand-off
    continues: Named[UUID | None] = Column(Uuid)
    continued_as: Named[UUID | None] = Column(Uuid)
    created_at: Named[datetime] = Column(Instant)
    updated_at: Named[datetime] = Column(Instant)
    # The segment that answers for it, as long as that bears its version: storage.segments
    segment_id: Named[UUID | None] = Column(Uuid)
    segment_position: Named[int | None] = Column(Integer)
    segment_version: Named[int | None] = Column(BigInteger)


class TransitionColumns(FactColumns, Owned):
    opportunity_id: Named[UUID] = Column(Uuid, primary_key=True)
    seq: Named[int] = Column(Integer, primary_key=True, autoincrement=False)
    transition_id: Named[UUID] = Column(Uuid)
    pipeline_id: Named[UUID] = Column(Uuid)
    revision: Named[int] = Column(Integer)
    kind: Named[str] = Column(Text)
    from_slot: Named[int | None] = Column(SmallInteger)
    from_name: Named[str | None] = Column(Text)
    entered_at: Named[datetime | None] = Column(Instant)
    to_slot: Named[int] = Column(SmallInteger)
    to_name: Named[str] = Column(Text)
    occurred_at: Named[datetime] = Column(Instant)
    recorded_at: Named[datetime] = Column(Instant)
    loss_reason: Named[str | None] = Column(Text)
    note: Named[str | None] = Column(Text)
    override_reason: Named[str | None] = Column(Text)
    actor: Named[str] = Column(Text)
    linked_id: Named[UUID | None] = Column(Uuid)  # the deal at the other end of a hand-off
    import_id: Named[UUID | None] = Column(Uuid)  # set on imported history
    voided_at: Named[datetime | None] = Column(Instant)
    voided_by: Named[str | None] = Column(Text)
    void_reason: Named[str | None] = Column(Text)


class OpportunityChangeColumns(Owned):
    opportunity_id: Named[UUID] = Column(Uuid, primary_key=True)
    change_id: Named[UUID] = Column(Uuid, primary_key=True)
    field: Named[str] = Column(Text, primary_key=True)
    pipeline_id: Named[UUID] = Column(Uuid)
    old: Named[Any] = Column(Json, nullable=True)
    new: Named[Any] = Column(Json, nullable=True)
    occurred_at: Named[datetime] = Column(Instant)
    recorded_at: Named[datetime] = Column(Instant)
    actor: Named[str] = Column(Text)


class ActivityColumns(Owned):
    opportunity_id: Named[UUID] = Column(Uuid, primary_key=True)
    activity_id: Named[UUID] = Column(Uuid, primary_key=True)
    pipeline_id: Named[UUID] = Column(Uuid)
    kind: Named[str] = Column(Text)
    content: Named[str | None] = Column(Text)
    outcome: Named[str | None] = Column(Text)
    next_step: Named[str | None] = Column(Text)
    next_step_at: Named[datetime | None] = Column(Instant)
    occurred_at: Named[datetime] = Column(Instant)
    recorded_at: Named[datetime] = Column(Instant)
    actor: Named[str] = Column(Text)
    import_id: Named[UUID | None] = Column(Uuid)


class IdleFlagColumns(Owned):
    opportunity_id: Named[UUID] = Column(Uuid, primary_key=True)
    clock_started_at: Named[datetime] = Column(Instant, primary_key=True)
    flag_id: Named[UUID] = Column(Uuid)
    pipeline_id: Named[UUID] = Column(Uuid)
    slot: Named[int] = Column(SmallInteger)
    clock: Named[str] = Column(Text)
    idle_since: Named[datetime] = Column(Instant)
    opened_at: Named[datetime] = Column(Instant)
    escalated_at: Named[datetime | None] = Column(Instant)  # since when it is critical
    acknowledged_at: Named[datetime | None] = Column(Instant)
    acknowledged_by: Named[str | None] = Column(Text)
    snoozed_at: Named[datetime | None] = Column(Instant)
    snoozed_by: Named[str | None] = Column(Text)
    snoozed_until: Named[datetime | None] = Column(Instant)
    snooze_reason: Named[str | None] = Column(Text)
    resolved_at: Named[datetime | None] = Column(Instant)
    resolved_by: Named[str | None] = Column(Text)  # the cause, not a person


class IdleScanColumns(Owned):
    scan_id: Named[UUID] = Column(Uuid, primary_key=True)
    started_at: Named[datetime] = Column(Instant)
    seconds: Named[float] = Column(Double)
    flagged: Named[int] = Column(Integer)
    escalated: Named[int] = Column(Integer)
    lag_seconds: Named[float | None] = Column(Double)
    requested_by: Named[str | None] = Column(Text)


class TombstoneColumns(Owned):
    opportunity_id: Named[UUID] = Column(Uuid, primary_key=True)
    pipeline_id: Named[UUID] = Column(Uuid)
    deleted_at: Named[datetime] = Column(Instant)
    deleted_by: Named[str] = Column(Text)


class SegmentColumns(Owned):
    segment_id: Named[UUID] = Column(Uuid, primary_key=True)
    pipeline_id: Named[UUID] = Column(Uuid)
    deals: Named[int] = Column(Integer)
    visits: Named[int] = Column(Integer)  # the version before asks for it
    filled: Named[int] = Column(Integer, server_default=text("0"))  # positions from here on: none
    gone: Named[bytes] = Column(LargeBinary, server_default=text("''"))  # four bytes a position
    holds_erased: Named[bool] = Column(
        server_default=text("false")
    )  # one of them is to be forgotten
    created_at: Named[datetime] = Column(Instant)
    edition: Named[int] = Column(Integer, server_default=text("0"))  # which columns it has


class SegmentColumnColumns(Owned):
    segment_id: Named[UUID] = Column(Uuid, primary_key=True)
    name: Named[str] = Column(Text, primary_key=True)
    type: Named[str] = Column(Text)
    data: Named[bytes] = Column(LargeBinary)
    meanings: Named[list[Any] | None] = Column(Json)  # what its codes stand for
    least: Named[int | None] = Column(BigInteger)
    most: Named[int | None] = Column(BigInteger)


class EventColumns(Owned):
    epoch: Named[int] = Column(Integer, primary_key=True, autoincrement=False)
    xid: Named[int] = Column(
        TransactionId, primary_key=True, server_default=text("pg_current_xact_id()")
    )
    n: Named[int] = Column(BigInteger, Identity(always=True), primary_key=True)
    event_id: Named[UUID] = Column(Uuid)
    type: Named[str] = Column(Text)
    pipeline_id: Named[UUID | None] = Column(Uuid)
    opportunity_id: Named[UUID | None] = Column(Uuid)
    occurred_at: Named[datetime] = Column(Instant)
    recorded_at: Named[datetime] = Column(Instant, server_default=func.clock_timestamp())
    historical: Named[bool] = Column(server_default=text("false"))
    data: Named[dict[str, Any]] = Column(Json)


class WebhookEndpointColumns(Owned):
    endpoint_id: Named[UUID] = Column(Uuid, primary_key=True)
    version: Named[int] = Column(BigInteger)
    url: Named[str] = Column(Text)
    description: Named[str] = Column(Text)
    types: Named[list[str]] = Column(ARRAY(Text))
    pipeline_id: Named[UUID | None] = Column(Uuid)
    stages: Named[list[str]] = Column(ARRAY(Text))
    include_historical: Named[bool] = Column()
    disabled_at: Named[datetime | None] = Column(Instant)
    disabled_reason: Named[str | None] = Column(Text)
    failing_since: Named[datetime | None] = Column(Instant)
    failed_deliveries: Named[int] = Column(BigInteger, server_default=text("0"))  # since then
    # The feed has been looked through for it up to here; the number of its last delivery
    epoch: Named[int] = Column(Integer)
    xid: Named[int] = Column(TransactionId)
    n: Named[int] = Column(BigInteger)
    last_sequence: Named[int] = Column(BigInteger, server_default=text("0"))
    created_at: Named[datetime] = Column(Instant)
    updated_at: Named[datetime] = Column(Instant)
    # What its maker saw, it is told of
    row_scope: Named[str] = Column(Text)
    team: Named[str | None] = Column(Text)
    subject: Named[str | None] = Column(Text)


class WebhookSecretColumns(Owned):
    endpoint_id: Named[UUID] = Column(Uuid, primary_key=True)
    secret_id: Named[UUID] = Column(Uuid, primary_key=True)
    secret: Named[bytes] = Column(LargeBinary)  # as it is: a hash cannot sign
    expires_at: Named[datetime | None] = Column(Instant)


class WebhookDeliveryColumns(Owned):
    endpoint_id: Named[UUID] = Column(Uuid, primary_key=True)
    sequence: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)
    event_id: Named[UUID] = Column(Uuid)
    epoch: Named[int] = Column(Integer)
    xid: Named[int] = Column(TransactionId)
    n: Named[int] = Column(BigInteger)
    state: Named[str] = Column(Text, server_default=text("'pending'"))
    attempts: Named[int] = Column(SmallInteger, server_default=text("0"))
    next_attempt_at: Named[datetime | None] = Column(Instant)  # while it is under way: its lease
    created_at: Named[datetime] = Column(Instant)
    finished_at: Named[datetime | None] = Column(Instant)
    replay_of: Named[int | None] = Column(BigInteger)


class WebhookAttemptColumns(Owned):
    endpoint_id: Named[UUID] = Column(Uuid, primary_key=True)
    sequence: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)
    number: Named[int] = Column(SmallInteger, primary_key=True, autoincrement=False)
    started_at: Named[datetime] = Column(Instant)
    seconds: Named[float] = Column(Double)
    status: Named[int | None] = Column(SmallInteger)
    failure: Named[str | None] = Column(Text)
    response: Named[str] = Column(Text)


class IdempotencyRecordColumns(Owned):
    key: Named[str] = Column(Text, primary_key=True)
    request_hash: Named[bytes] = Column(LargeBinary)
    status: Named[int] = Column(SmallInteger)
    location: Named[str | None] = Column(Text)
    etag: Named[str | None] = Column(Text)
    body: Named[bytes] = Column(LargeBinary)
    created_at: Named[datetime] = Column(Instant, server_default=func.clock_timestamp())


class ImportJobColumns(Owned):
    import_id: Named[UUID] = Column(Uuid, primary_key=True)
    pipeline_id: Named[UUID] = Column(Uuid)
    state: Named[str] = Column(Text)
    mapping: Named[dict[str, Any]] = Column(Json)
    on_error: Named[str] = Column(Text)
    on_conflict: Named[str] = Column(Text)
    actor: Named[str] = Column(Text)
    created_at: Named[datetime] = Column(Instant)
    started_at: Named[datetime | None] = Column(Instant)
    finished_at: Named[datetime | None] = Column(Instant)
    failure: Named[str | None] = Column(Text)
    lease_id: Named[UUID | None] = Column(Uuid)
    leased_until: Named[datetime | None] = Column(Instant)
    # How far it has come: what a restart goes on from
    bytes_total: Named[int] = Column(BigInteger)
    bytes_read: Named[int] = Column(BigInteger)
    records_read: Named[int] = Column(BigInteger)
    rows_staged: Named[int] = Column(BigInteger)
    rows_done: Named[int] = Column(BigInteger)
    done_through: Named[str | None] = Column(Text)  # the last deal of which all rows are done
    counts: Named[dict[str, int]] = Column(Json)


class ImportChunkColumns(Owned):
    import_id: Named[UUID] = Column(Uuid, primary_key=True)
    n: Named[int] = Column(Integer, primary_key=True, autoincrement=False)
    content: Named[bytes] = Column(LargeBinary)


class ImportRowColumns(Owned):
    """Its key is the order in which the rows are read back."""

    import_id: Named[UUID] = Column(Uuid, primary_key=True)
    deal: Named[str] = Column(Text, primary_key=True)
    occurred_at: Named[datetime] = Column(Instant, primary_key=True)
    sequence: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)
    line: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)
    ordinal: Named[int] = Column(SmallInteger, primary_key=True, autoincrement=False)
    slot: Named[int | None] = Column(SmallInteger)
    activity: Named[str | None] = Column(Text)
    loss_reason: Named[str | None] = Column(Text)
    says: Named[dict[str, Any] | None] = Column(Json)
    raw: Named[str] = Column(Text)


class ImportRemarkColumns(Owned):
    import_id: Named[UUID] = Column(Uuid, primary_key=True)
    line: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)
    severity: Named[str] = Column(Text, primary_key=True)
    ordinal: Named[int] = Column(SmallInteger, primary_key=True, autoincrement=False)
    column_name: Named[str | None] = Column(Text)
    code: Named[str] = Column(Text)
    reason: Named[str] = Column(Text)
    raw: Named[str] = Column(Text)


KINDS = (
    *("opened", "advanced", "skipped", "regressed", "sidestepped"),
    *("won", "lost", "reopened", "handed_off", "rearranged"),
)

IMPORT_ENDS = ("completed", "aborted", "failed")
ROW_SCOPES = ("own", "team", "all")

workspace = Table("workspace", metadata, WorkspaceColumns, Index(None, "key", unique=True))

api_key = Table(
    "api_key",
    metadata,
    ApiKeyColumns,
    within("workspace"),
    one_of("row_scope", *ROW_SCOPES),
    CheckConstraint("(workspace_id IS NULL) = (scopes = ARRAY['platform'])", name="platform"),
    Index(None, "workspace_id", "key_id"),
)

audit_entry = Table(
    "audit_entry",
    metadata,
    AuditEntryColumns,
    within("workspace"),
    Index(None, "workspace_id", "target", "entry_id"),
)
"""Who changed what settings, keys, endpoints and overrides, from what to what. Append-only."""

epoch = Table("epoch", metadata, EpochColumns, Index(None, "cluster", unique=True))

installation = Table("installation", metadata, InstallationColumns)
"""Facts of this installation, such as the secret that signs cursors."""

pipeline = Table(
    "pipeline",
    metadata,
    PipelineColumns,
    within("workspace"),
    Index(None, "workspace_id", "key", unique=True),
)

pipeline_revision = Table(
    "pipeline_revision", metadata, PipelineRevisionColumns, within("pipeline", "pipeline_id")
)


def unfolded(row: str = "") -> str:
    """The SQL condition that no segment bears the version of a deal's row.

    `row` stands before the names of its columns, like `o.`; without it they stand alone.
    In words that nothing is known of, the planner takes it to be true of one deal in two hundred.
    Of `segment_version IS DISTINCT FROM version` it would take nearly all, and pass over their
    index. That serves no condition but this one.
    """
    return f"CAST({row}version > coalesce({row}segment_version, -1) AS int) = 1"


opportunity = Table(
    "opportunity",
    metadata,
    OpportunityColumns,
    within("pipeline", "pipeline_id"),
    one_of("status", "open", "won", "lost", "handed_off"),
    CheckConstraint("(status = 'open') = (closed_at IS NULL)", name="closed_at"),
    CheckConstraint("stage_entered_at >= opened_at", name="entered_after_opened"),
    CheckConstraint("amount IS NULL OR currency IS NOT NULL", name="currency"),
    Index(
        "opportunity_external_id_uq",
        "workspace_id",
        "external_id",
        unique=True,
        postgresql_where=text("external_id IS NOT NULL"),
    ),
    Index("opportunity_board_ix", "workspace_id", "pipeline_id", "slot", "opportunity_id"),
    # The metrics' own: they answer for a period by themselves (docs/decisions/metric-speed.md).
    Index(
        "opportunity_opened_ix",
        *("workspace_id", "pipeline_id", "opened_at"),
        postgresql_include=(
            *("opportunity_id", "stage_entered_at", "closed_at", "status", "slot", "reach_mask"),
            *("amount", "currency", "facts_changed_at", "owner", "team", "source", "priority"),
        ),
        postgresql_where=text("closed_facts IS NULL"),
    ),
    Index(
        "opportunity_closed_ix",
        *("workspace_id", "pipeline_id", "closed_at"),
        postgresql_include=(
            *("opportunity_id", "opened_at", "stage_entered_at", "status", "dwell", "amount"),
            *("currency", "facts_changed_at", "owner", "team", "source", "priority"),
        ),
        postgresql_where=text("closed_at IS NOT NULL AND closed_facts IS NULL"),
    ),
    Index(
        "opportunity_kept_ix",
        *("workspace_id", "pipeline_id", "opened_at", "closed_at"),
        postgresql_where=text("closed_facts IS NOT NULL"),
    ),
    Index(
        "opportunity_untold_ix",
        *("workspace_id", "pipeline_id", "opened_at"),
        postgresql_where=text("closed_facts = '{}'"),
    ),
    Index(
        "opportunity_unsettled_ix",
        *("workspace_id", "pipeline_id", "facts_changed_at"),
        postgresql_where=text("closed_at IS NULL AND facts_changed_at IS NOT NULL"),
    ),
    Index(
        "opportunity_open_ix",
        *("workspace_id", "pipeline_id", "stage_entered_at"),
        postgresql_include=(
            *("opportunity_id", "slot", "opened_at", "closed_at", "moved_at", "amount", "currency"),
            *("probability", "facts_changed_at", "owner", "team", "source", "priority"),
        ),
        postgresql_where=text("status = 'open' AND closed_facts IS NULL"),
    ),
    Index(
        "opportunity_entered_ix",
        *("workspace_id", "pipeline_id", "stage_entered_at"),
        postgresql_include=("opportunity_id", "opened_at", "closed_at"),
    ),
    Index(
        "opportunity_unfolded_ix",
        *("workspace_id", "pipeline_id", "opened_at"),
        postgresql_include=("segment_id", "segment_position"),
        postgresql_where=text(unfolded()),
    ),
    Index(
        "opportunity_untold_unfolded_ix",
        *("workspace_id", "pipeline_id"),
        postgresql_where=text(f"closed_facts = '{{}}' AND {unfolded()}"),
    ),
    Index("opportunity_updated_ix", "workspace_id", "updated_at", "opportunity_id"),
    Index(
        "opportunity_due_ix",
        "workspace_id",
        "goes_idle_at",
        postgresql_where=text("goes_idle_at IS NOT NULL AND flagged_at IS NULL"),
    ),
    Index(
        "opportunity_escalating_ix",
        *("workspace_id", "critical_at"),
        postgresql_where=text("flagged_at IS NOT NULL AND escalated_at IS NULL"),
    ),
    Index(
        "opportunity_next_step_ix",
        *("workspace_id", "next_step_at"),
        postgresql_where=text("next_step_at IS NOT NULL"),
    ),
    Index(
        "opportunity_follow_up_ix",
        *("workspace_id", "follow_up_due_at", "opportunity_id"),
        postgresql_where=text("follow_up_due_at IS NOT NULL"),
    ),
    # Without the id, which the lists are in the order of: equal entries take a tenth of the room.
    # Of those that have one: else any look-up of a deal might take them to be as good as its own.
    *(
        Index(
            f"opportunity_{column}_ix",
            *("workspace_id", column),
            postgresql_where=text(f"{column} IS NOT NULL"),
        )
        for column in ("owner", "team")
    ),
)

transition = Table(
    "transition",
    metadata,
    TransitionColumns,
    within("opportunity", "opportunity_id"),
    one_of("kind", *KINDS),
    CheckConstraint("seq > 1 OR kind = 'opened'", name="opening"),
    CheckConstraint("(kind = 'opened') = (from_slot IS NULL)", name="origin"),
    CheckConstraint("entered_at IS NULL OR occurred_at >= entered_at", name="time"),
    Index("transition_id_uq", "workspace_id", "transition_id", unique=True),
    Index(
        "transition_visit_ix",
        *("workspace_id", "pipeline_id", "entered_at"),
        postgresql_include=(
            *("from_slot", "occurred_at", "owner", "team", "source", "priority", "currency"),
        ),
        postgresql_where=text("voided_at IS NULL AND entered_at IS NOT NULL"),
    ),
    Index(
        "transition_left_ix",
        *("workspace_id", "pipeline_id", "occurred_at"),
        postgresql_include=(
            *("from_slot", "entered_at", "kind", "to_slot"),
            *("owner", "team", "source", "priority", "currency"),
        ),
        postgresql_where=text("voided_at IS NULL AND entered_at IS NOT NULL"),
    ),
    Index(
        "transition_lost_ix",
        *("workspace_id", "pipeline_id", "occurred_at"),
        postgresql_include=("opportunity_id", "seq", "from_slot", "loss_reason"),
        postgresql_where=text("voided_at IS NULL AND loss_reason IS NOT NULL"),
    ),
)

opportunity_change = Table(
    "opportunity_change",
    metadata,
    OpportunityChangeColumns,
    within("opportunity", "opportunity_id"),
    Index("opportunity_change_time_ix", "workspace_id", "pipeline_id", "occurred_at"),
)

activity = Table(
    "activity",
    metadata,
    ActivityColumns,
    within("opportunity", "opportunity_id"),
    Index("activity_time_ix", "workspace_id", "opportunity_id", "occurred_at", "activity_id"),
)

idle_flag = Table(
    "idle_flag",
    metadata,
    IdleFlagColumns,
    within("opportunity", "opportunity_id"),
    Index("idle_flag_id_uq", "workspace_id", "flag_id", unique=True),
    Index(
        "idle_flag_open_ix",
        "workspace_id",
        "pipeline_id",
        "flag_id",
        postgresql_where=text("resolved_at IS NULL"),
    ),
)

idle_scan = Table(
    "idle_scan",
    metadata,
    IdleScanColumns,
    Index("idle_scan_time_ix", "workspace_id", "started_at"),
)

tombstone = Table("tombstone", metadata, TombstoneColumns)

segment = Table(
    "segment",
    metadata,
    SegmentColumns,
    within("pipeline", "pipeline_id"),
    Index("segment_pipeline_ix", "workspace_id", "pipeline_id"),
)
"""Deals once more, column by column, as they were at the version that their rows bear too."""

segment_column = Table(
    "segment_column", metadata, SegmentColumnColumns, within("segment", "segment_id")
)

event = Table(
    "event",
    metadata,
    EventColumns,
    Index("event_pipeline_ix", "workspace_id", "pipeline_id", "epoch", "xid", "n"),
    Index("event_opportunity_ix", "workspace_id", "opportunity_id"),
)

webhook_endpoint = Table(
    "webhook_endpoint",
    metadata,
    WebhookEndpointColumns,
    within("pipeline", "pipeline_id"),
    one_of("disabled_reason", "requested", "gone", "failing"),
    one_of("row_scope", *ROW_SCOPES),
    CheckConstraint("(disabled_at IS NULL) = (disabled_reason IS NULL)", name="disabled"),
    CheckConstraint("row_scope = 'all' OR subject IS NOT NULL", name="subject"),
)

webhook_secret = Table(
    "webhook_secret", metadata, WebhookSecretColumns, within("webhook_endpoint", "endpoint_id")
)

# No reference to the endpoint: an endpoint is deleted at once, and what it was sent is cleared away
# by and by.
webhook_delivery = Table(
    "webhook_delivery",
    metadata,
    WebhookDeliveryColumns,
    one_of("state", "pending", "delivered", "failed"),
    CheckConstraint("(state = 'pending') = (next_attempt_at IS NOT NULL)", name="next_attempt"),
    CheckConstraint("(state = 'pending') = (finished_at IS NULL)", name="finished"),
    Index(
        "webhook_delivery_due_ix",
        *("workspace_id", "endpoint_id", "next_attempt_at", "sequence"),
        postgresql_where=text("state = 'pending'"),
    ),
    Index(
        "webhook_delivery_finished_ix",
        *("workspace_id", "finished_at"),
        postgresql_where=text("finished_at IS NOT NULL"),
    ),
    Index("webhook_delivery_event_ix", "workspace_id", "event_id"),
)

webhook_attempt = Table(
    "webhook_attempt",
    metadata,
    WebhookAttemptColumns,
    within("webhook_delivery", "endpoint_id", "sequence"),
)

idempotency_record = Table("idempotency_record", metadata, IdempotencyRecordColumns)

import_job = Table(
    "import_job",
    metadata,
    ImportJobColumns,
    within("pipeline", "pipeline_id"),
    one_of("state", "receiving", "pending", "staging", "checking", "appending", *IMPORT_ENDS),
    one_of("on_error", "skip", "abort"),
    one_of("on_conflict", "reject", "rewrite"),
    Index(
        "import_job_unfinished_ix",
        "workspace_id",
        "import_id",
        postgresql_where=text("finished_at IS NULL"),
    ),
)

import_chunk = Table(
    "import_chunk", metadata, ImportChunkColumns, within("import_job", "import_id")
)
"""The file as it was sent, until its rows are staged."""

# Rows come by the million and go within the job: a reference would be checked for each of them.
import_row = Table("import_row", metadata, ImportRowColumns)
"""What the file says, a dated statement a row, until it is done."""

import_remark = Table(
    "import_remark",
    metadata,
    ImportRemarkColumns,
    within("import_job", "import_id"),
    one_of("severity", "rejected", "warning"),
)
"""Every row that was rejected, and those that are worth a second look."""
