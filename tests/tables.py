"""Tables of a test's own, which need no revisions."""

from sqlalchemy import MetaData

from tidemill.db import Database


async def create_tables(database: Database, metadata: MetaData) -> None:
    async with database.changing_tables() as connection:
        await connection.run_sync(metadata.create_all)
