"""An import leaves fresh statistics behind: the planner would take its thousands of deals for one.

Autovacuum comes within minutes; until then a metric may run into its time-out.
"""

from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: None = None
depends_on: None = None

TABLES = ("opportunity", "transition", "opportunity_change", "activity", "event")
# Only an owner may analyze, before PostgreSQL 17 grants MAINTAIN.
REFRESH = f"""
CREATE FUNCTION refresh_statistics() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    {" ".join(f"ANALYZE {table};" for table in TABLES)}
$$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(REFRESH)
    op.execute("REVOKE ALL ON FUNCTION refresh_statistics() FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION refresh_statistics() TO sluice_app")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP FUNCTION refresh_statistics()")
