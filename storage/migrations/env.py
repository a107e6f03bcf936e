"""Run by alembic for each command: tells it the connection and the tables as they should be."""

from alembic import context

from storage.migrations.tables import Base
from storage.migrations.upgrade import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
