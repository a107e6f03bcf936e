"""Keep beside each job a summary of how far it is, so that lists of jobs read no trial and no front."""

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_JOBS = sa.table("jobs", sa.column("job_id"), sa.column("facts", sa.JSON), sa.column("document", sa.JSON))
_TRIALS = sa.table("trials", sa.column("job_id"), sa.column("state"))
_SUMMARIES = sa.table("summaries", sa.column("job_id"), sa.column("value", sa.JSON))


def upgrade() -> None:
    """Make the table, and summaries of the jobs that are there: in a table of its own it is small and read at once."""
    op.create_table(
        "summaries",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_summaries_job_id_jobs")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_summaries")),
    )
    connection = op.get_bind()
    trials: dict[str, dict[str, int]] = defaultdict(dict)
    counted = sa.select(_TRIALS.c.job_id, _TRIALS.c.state, sa.func.count()).group_by(_TRIALS.c.job_id, _TRIALS.c.state)
    for job_id, state, count in connection.execute(counted):
        trials[job_id][state] = count
    for job_id in connection.scalars(sa.select(_JOBS.c.job_id)).all():
        found = sa.select(_JOBS.c.facts, _JOBS.c.document).where(_JOBS.c.job_id == job_id)
        facts, document = connection.execute(found).one()
        if trials[job_id] or document:
            value = _summary(trials[job_id], facts or {}, document)
            connection.execute(sa.insert(_SUMMARIES).values(job_id=job_id, value=value))


def _summary(trials: dict[str, int], facts: dict[str, Any], document: dict[str, Any] | None) -> dict[str, Any]:
    """Return what the records of an older program tell."""
    value = {"updated_at": datetime.now(UTC).isoformat(), "trials": trials}
    value["elapsed_seconds"] = facts.get("wall_seconds", 0.0)
    if document is None:
        return value
    best = next((point for point in document["front"] if point["recommended"]), None)
    names = ("point", "size_bytes", "kl_divergence")
    return value | {
        "hypervolume": document["hypervolume"],
        "best_kl_divergence": None if best is None else best["kl_divergence"],
        "marginal_price": document.get("marginal_price"),
        "measured_on": document.get("measured_on", "held_out"),
        "num_points": len(document["front"]),
        "recommended": None if best is None else {name: best[name] for name in names},
    }


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("summaries")
