"""The indexes of owners and teams hold the deals that have one, and serve who asks for one.

Whole, they were as good as any other index to find a workspace's deals by: in a table not analysed
yet a move looked for its own deal in them, among all of the workspace's.
"""

import sqlalchemy as sa
from alembic import op

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: None = None
depends_on: None = None

INDEXES = {"opportunity_owner_ix": "owner", "opportunity_team_ix": "team"}


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name, column in INDEXES.items():
        op.drop_index(name, table_name="opportunity")
        op.create_index(
            name,
            "opportunity",
            ["workspace_id", column],
            postgresql_where=sa.text(f"{column} IS NOT NULL"),
        )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name, column in INDEXES.items():
        op.drop_index(name, table_name="opportunity")
        op.create_index(name, "opportunity", ["workspace_id", column])
