"""Keep what people call a job and note of it, who wants to hear of its end, and what was told them."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the columns and make the tables."""
    for name in ("label", "note"):
        op.add_column("jobs", sa.Column(name, sa.Text()))
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "webhooks",
        sa.Column("position", number, nullable=False),
        sa.Column("hook_id", sa.Text(), nullable=False),
        sa.Column("user", sa.Text()),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_webhooks")),
        sa.UniqueConstraint("hook_id", name=op.f("uq_webhooks_hook_id")),
    )
    op.create_table(
        "deliveries",
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.Column("hook_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True)),
        sa.Column("delivered_at", sa.DateTime(timezone=True)),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_deliveries")),
    )


def downgrade() -> None:
    """Take them back."""
    for name in ("deliveries", "webhooks"):
        op.drop_table(name)
    for name in ("note", "label"):
        op.drop_column("jobs", name)
