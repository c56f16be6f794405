"""Segments hold what facts were before they were changed, and say in which edition they are.

So what was true of open deals in the past is told without a look at the log of changes. A segment
of an earlier edition, as one of the version before may write while both run, is written anew in the
background; until then questions about the past are counted by SQL.
"""

import sqlalchemy as sa
from alembic import op

revision: str = "0015"
down_revision: str | None = "0014"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("segment", sa.Column("edition", sa.Integer(), nullable=False, server_default="0"))
    op.execute("GRANT SELECT (edition) ON segment TO sluice_jobs")
    op.execute("ALTER POLICY segment_for_jobs ON segment USING (true)")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER POLICY segment_for_jobs ON segment USING (holds_erased OR filled < deals)")
    op.execute("REVOKE SELECT (edition) ON segment FROM sluice_jobs")
    op.drop_column("segment", "edition")
    # They lack a column that the version before asks for; it writes them anew.
    op.execute("UPDATE segment SET holds_erased = true")
