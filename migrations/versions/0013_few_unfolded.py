"""The deals that are in no segment are told in words by which the planner takes them for few.

`segment_version IS DISTINCT FROM version` is to it true of nearly all deals. So it passed over
their index as soon as that had grown by an import, and read all deals of the pipeline for every
question. An equality of which it has no statistics is to it true of one in two hundred.
"""

import sqlalchemy as sa
from alembic import op

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: None = None
depends_on: None = None

BEFORE = "segment_version IS DISTINCT FROM version"
UNFOLDED = "CAST(version > coalesce(segment_version, -1) AS int) = 1"


def upgrade() -> None:
    tell(UNFOLDED)


def downgrade() -> None:
    tell(BEFORE)


def tell(unfolded: str) -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("opportunity_unfolded_ix", table_name="opportunity")
    op.create_index(
        "opportunity_unfolded_ix",
        "opportunity",
        ["workspace_id", "pipeline_id", "opened_at"],
        postgresql_include=["segment_id", "segment_position"],
        postgresql_where=sa.text(unfolded),
    )
    op.drop_index("opportunity_untold_unfolded_ix", table_name="opportunity")
    op.create_index(
        "opportunity_untold_unfolded_ix",
        "opportunity",
        ["workspace_id", "pipeline_id"],
        postgresql_where=sa.text(f"closed_facts = '{{}}' AND {unfolded}"),
    )
    op.execute(f"ALTER POLICY opportunity_unfolded_for_jobs ON opportunity USING ({unfolded})")
