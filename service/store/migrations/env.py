"""Alembic environment: migrates over the connection that `Store.migrate` hands it."""

from alembic import context
from sqlmodel import SQLModel

import service.store.tables  # noqa: F401  (fills SQLModel.metadata)

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    transactional_ddl=False,
)
context.run_migrations()
