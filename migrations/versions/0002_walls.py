"""The walls: who may do what to which table, and that no workspace sees another.

Grants say what the service may ever do (nothing deletes from the log; of a transition, only the
void columns can be written). Policies say to which rows. The table's owner is not held by them
(no FORCE): a data migration must see every row, and so must `pg_dump`.
"""

from alembic import op
from sqlalchemy import text

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: None = None
depends_on: None = None

APPEND_ONLY = ("pipeline_revision", "opportunity_change", "activity", "event", "tombstone")
UPDATED = ("workspace", "pipeline", "opportunity", "idle_flag")
VOIDED = "voided_at, voided_by, void_reason"
WORKSPACE = "(SELECT nullif(current_setting('app.workspace_id', true), '')::uuid)"
KEY_ID = "(SELECT nullif(current_setting('app.key_id', true), ''))"

# Runs as the owner, whom no policy holds: the workspace condition is this function's own.
ERASE = """
CREATE FUNCTION erase_opportunity(erased uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    DELETE FROM idle_flag WHERE workspace_id = current_setting('app.workspace_id')::uuid
        AND opportunity_id = erased;
    DELETE FROM activity WHERE workspace_id = current_setting('app.workspace_id')::uuid
        AND opportunity_id = erased;
    DELETE FROM opportunity_change WHERE workspace_id = current_setting('app.workspace_id')::uuid
        AND opportunity_id = erased;
    DELETE FROM transition WHERE workspace_id = current_setting('app.workspace_id')::uuid
        AND opportunity_id = erased;
    DELETE FROM opportunity WHERE workspace_id = current_setting('app.workspace_id')::uuid
        AND opportunity_id = erased;
$$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in APPEND_ONLY:
        op.execute(f"GRANT SELECT, INSERT ON {table} TO sluice_app")
    for table in UPDATED:
        op.execute(f"GRANT SELECT, INSERT, UPDATE ON {table} TO sluice_app")
    op.execute("GRANT SELECT, INSERT ON transition TO sluice_app")
    op.execute(f"GRANT UPDATE ({VOIDED}) ON transition TO sluice_app")
    op.execute("GRANT SELECT, INSERT ON api_key TO sluice_app")
    op.execute("GRANT UPDATE (revoked_at) ON api_key TO sluice_app")
    op.execute("GRANT SELECT, INSERT, UPDATE ON idempotency_record TO sluice_app")
    op.execute("GRANT SELECT ON epoch, installation TO sluice_app, sluice_jobs")
    op.execute("GRANT SELECT ON workspace TO sluice_jobs")
    op.execute(
        "GRANT SELECT (workspace_id, goes_idle_at, flagged_at) ON opportunity TO sluice_jobs"
    )
    op.execute("GRANT SELECT, DELETE ON idempotency_record TO sluice_jobs")

    for table in (
        *APPEND_ONLY,
        *UPDATED,
        "transition",
        "api_key",
        "idempotency_record",
    ):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY {table}_of_workspace ON {table} TO sluice_app "
            f"USING (workspace_id = {WORKSPACE}) WITH CHECK (workspace_id = {WORKSPACE})"
        )
    for table in ("epoch", "installation"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY {table}_for_all ON {table} FOR SELECT "
            "TO sluice_app, sluice_jobs USING (true)"
        )
    # A key is looked up before its workspace is known: that one row and no other.
    op.execute(
        f"CREATE POLICY api_key_lookup ON api_key FOR SELECT TO sluice_app USING (key_id = {KEY_ID})"
    )
    # Jobs ask which workspaces have work, and clear away what has expired.
    op.execute(
        "CREATE POLICY workspace_for_jobs ON workspace FOR SELECT TO sluice_jobs USING (true)"
    )
    op.execute(
        "CREATE POLICY opportunity_for_jobs ON opportunity FOR SELECT TO sluice_jobs "
        "USING (goes_idle_at IS NOT NULL)"
    )
    op.execute(
        "CREATE POLICY idempotency_record_for_jobs ON idempotency_record TO sluice_jobs USING (true)"
    )
    op.execute(ERASE)
    op.execute("REVOKE ALL ON FUNCTION erase_opportunity(uuid) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION erase_opportunity(uuid) TO sluice_app")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP FUNCTION erase_opportunity(uuid)")
    policies = op.get_bind().execute(
        text("SELECT tablename, policyname FROM pg_policies WHERE schemaname = 'public'")
    )
    for table, policy in policies.all():
        op.execute(f"DROP POLICY {policy} ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    op.execute("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM sluice_app, sluice_jobs")
