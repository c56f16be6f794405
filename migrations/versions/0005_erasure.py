"""Erasure reaches what is told of a deal: its events are emptied, answers kept of it are dropped."""

from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: None = None
depends_on: None = None

# Runs as the owner, whom no policy holds: the workspace condition is the function's own.
DELETIONS = "".join(
    f"""
    DELETE FROM {table} WHERE workspace_id = current_setting('app.workspace_id')::uuid
        AND opportunity_id = erased;"""
    for table in ("idle_flag", "activity", "opportunity_change", "transition", "opportunity")
)
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
ERASE = """
CREATE OR REPLACE FUNCTION erase_opportunity(erased uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $${}
$$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_index("event_opportunity_ix", "event", ["workspace_id", "opportunity_id"])
    op.execute(ERASE.format(TRACES + DELETIONS))


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(ERASE.format(DELETIONS))
    op.drop_index("event_opportunity_ix", table_name="event")
