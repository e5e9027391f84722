"""How Alembic runs a migration: on the connection that `promptmill.store.migrate` hands over, in its transaction."""

from alembic import context

from promptmill.store.schema import MIGRATIONS_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=MIGRATIONS_TABLE,
    transactional_ddl=True,  # SQLite can, when nobody commits in between; nobody does
)
with context.begin_transaction():
    context.run_migrations()
