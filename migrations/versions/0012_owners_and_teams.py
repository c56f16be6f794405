"""Deals are found by their owner and by their team.

A seller's list reads on from the newest deal until it has a page; of a million deals, none of which
may be the seller's, that was all of them.
"""

from alembic import op

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: None = None
depends_on: None = None

INDEXES = {"opportunity_owner_ix": "owner", "opportunity_team_ix": "team"}


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name, column in INDEXES.items():
        op.create_index(name, "opportunity", ["workspace_id", column])


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name in INDEXES:
        op.drop_index(name, table_name="opportunity")
