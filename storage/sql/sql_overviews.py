"""Jobs in short, of a store in SQLite or PostgreSQL: what lists and whoever asks often read, and no more than that."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import JSON, Select, bindparam, false, func, insert, literal, select, type_coerce, update
from sqlalchemy.orm import Session

from space.results.document import FrontDocument
from storage.job_summary import Overview, Summary, Wanted, not_in_list
from storage.migrations.tables import JobRow, SummaryRow, Words
from storage.sound_records import reading, sound_document
from storage.sql.sql_rows import overview_of
from storage.sql.sql_transactions import SqlTransactions, check_job_exists

_JOBS = JobRow.__table__
_SHORT = (
    *("job_id", "spec", "state", "created_at", "started_at", "finished_at", "phase", "error", "user", "holder"),
    *("label", "note"),
)
_OVERVIEWS = (
    select(*(_JOBS.c[name] for name in _SHORT), SummaryRow.value)
    .outerjoin_from(JobRow, SummaryRow, SummaryRow.job_id == JobRow.job_id)
    .order_by(JobRow.position.desc())
)
_OVERVIEW = _OVERVIEWS.where(JobRow.job_id == bindparam("key_job"))
_DOCUMENT = select(_JOBS.c.document).where(_JOBS.c.job_id == bindparam("key_job"))
_CHANGE_SUMMARY = (
    update(SummaryRow.__table__)  # type: ignore[arg-type]
    .where(SummaryRow.job_id == bindparam("key_job"))
    .values(value=bindparam("value"))
)


class SqlOverviews(SqlTransactions):
    """The part of `SqlStore` that tells of jobs without their facts."""

    def overview(self, job_id: str) -> Overview:
        """Return a job in short. Raises NotFoundError."""
        with self._connection() as connection:
            row = connection.execute(_OVERVIEW, {"key_job": job_id}).first()
            if row is None:
                check_job_exists(Session(connection), job_id)
            return overview_of(row)

    def list_overviews(self) -> Sequence[Overview]:
        """Return all jobs in short, newest first."""
        with self._connection() as connection:
            return [overview_of(row) for row in connection.execute(_OVERVIEWS)]

    def page_overviews(self, wanted: Wanted, after: str | None, limit: int) -> tuple[Sequence[Overview], int]:
        """Return the jobs that are wanted, newest first, behind one of them, and how many there are together."""
        with self._connection() as connection:
            page = _only(_OVERVIEWS, wanted).limit(limit)
            if after is not None:
                place = connection.scalar(_only(select(JobRow.position), wanted).where(JobRow.job_id == after))
                if place is None:
                    raise not_in_list(after)
                page = page.where(JobRow.position < place)
            total = connection.scalar(_only(select(func.count(JobRow.position)), wanted))
            return [overview_of(row) for row in connection.execute(page)], total or 0

    def document(self, job_id: str) -> FrontDocument | None:
        """Return a job's front, None where there is none yet. Raises NotFoundError."""
        with self._connection() as connection:
            row = connection.execute(_DOCUMENT, {"key_job": job_id}).first()
            if row is None:
                check_job_exists(Session(connection), job_id)
                return None
        with reading(f"Job {job_id}"):
            return None if row.document is None else sound_document(job_id, row.document)

    def put_summary(self, job_id: str, summary: Summary) -> None:
        """Keep how far a job is. Raises NotFoundError."""
        values = {"job_id": job_id, "value": summary.to_json()}
        with self._connection(write=True) as connection:
            changed = connection.execute(_CHANGE_SUMMARY, {"key_job": job_id, "value": values["value"]}).rowcount
            if not changed:
                check_job_exists(Session(connection), job_id)
                connection.execute(insert(SummaryRow), values)


def _only(found: Select[Any], wanted: Wanted) -> Select[Any]:
    """Return a selection of jobs, of those that are wanted alone."""
    if wanted.user is not None:
        found = found.where(JobRow.user == wanted.user)
    if wanted.states is not None:
        found = found.where(JobRow.state.in_(wanted.states) if wanted.states else false())
    if wanted.model:
        found = found.where(_holds(type_coerce(JobRow.spec, JSON)["model"].as_string(), wanted.model))
    if wanted.label:
        found = found.where(_holds(func.coalesce(JobRow.label, ""), wanted.label))
    return found


def _holds(text: Any, part: str) -> Any:
    """Return that a text holds a part of it, letter by letter."""
    wanted = literal(part, Words())
    return func.length(func.replace(text, wanted, wanted.concat("+"))) > func.length(text)
