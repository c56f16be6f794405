"""When the last fact of a deal changed, beside the deal: its row tells whether it answers for T."""

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column(
        "opportunity", sa.Column("facts_changed_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.execute(
        """
        UPDATE opportunity AS o SET facts_changed_at = c.changed_at
        FROM (SELECT workspace_id, opportunity_id, max(occurred_at) AS changed_at
              FROM opportunity_change GROUP BY workspace_id, opportunity_id) AS c
        WHERE o.workspace_id = c.workspace_id AND o.opportunity_id = c.opportunity_id
        """
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_column("opportunity", "facts_changed_at")
