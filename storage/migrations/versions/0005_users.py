"""Keep with each job whose it is; who has it at the moment is its holder, as everywhere in the program."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the user, who is not known of jobs that are there; rename the owner, who was none."""
    op.add_column("jobs", sa.Column("user", sa.Text()))
    op.execute("ALTER TABLE jobs RENAME COLUMN owner TO holder")


def downgrade() -> None:
    """Take both back."""
    op.execute("ALTER TABLE jobs RENAME COLUMN holder TO owner")
    op.drop_column("jobs", "user")
