"""Keep with each measurement its plan and who asked for it, so that all that is known of a text can be listed."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from space.digest import digest

revision = "0002"
down_revision = "0001"

_MEASUREMENTS = sa.table(
    "measurements",
    sa.column("plan_digest", sa.String),
    sa.column("plan", sa.JSON),
    sa.column("origin", sa.Text),
    sa.column("base", sa.JSON(none_as_null=True)),
)
_TRIALS = sa.table(
    "trials", sa.column("plan", sa.JSON), sa.column("origin", sa.Text), sa.column("sampler_state", sa.JSON)
)


def upgrade() -> None:
    """Add the columns and fill them from the trials that are there."""
    with op.batch_alter_table("measurements") as batch:
        batch.add_column(sa.Column("plan", sa.JSON()))
        batch.add_column(sa.Column("origin", sa.Text()))
        batch.add_column(sa.Column("base", sa.JSON()))
        batch.create_index(op.f("ix_measurements_evaluation_digest"), ["evaluation_digest"])
    connection = op.get_bind()
    for values in _known_plans(connection):
        change = sa.update(_MEASUREMENTS).where(_MEASUREMENTS.c.plan_digest == values.pop("plan_digest"))
        connection.execute(change.values(values))


def _known_plans(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    """Yield each plan that was tried once, as columns."""
    seen = set()
    for row in connection.execute(sa.select(_TRIALS)).all():
        if (name := digest(row.plan)) not in seen:
            seen.add(name)
            base = row.sampler_state.get("base")
            yield {"plan_digest": name, "plan": row.plan, "origin": row.origin, "base": base}


def downgrade() -> None:
    """Drop the columns."""
    with op.batch_alter_table("measurements") as batch:
        batch.drop_index(op.f("ix_measurements_evaluation_digest"))
        for name in ("base", "origin", "plan"):
            batch.drop_column(name)
