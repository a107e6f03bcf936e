"""Keep with each job who holds it, and a request to pause."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns; no job of an older program is held by anybody."""
    op.add_column("jobs", sa.Column("pause_requested", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("jobs", sa.Column("owner", sa.Text()))
    op.add_column("jobs", sa.Column("token", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("beat", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Drop the columns; a PAUSED job, which older programs do not know, is CANCELLED."""
    op.execute("UPDATE jobs SET state = 'CANCELLED' WHERE state = 'PAUSED'")
    for name in ("beat", "token", "owner", "pause_requested"):
        op.drop_column("jobs", name)
