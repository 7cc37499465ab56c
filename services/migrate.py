"""Bring the tables of services up to date, or back: python -m services.migrate [NAME ...].

Run it before the new code starts. The old code runs on the new tables too (docs/rows.md), so
services may be restarted in any order. Running it again changes nothing.
"""

import argparse
import importlib
import importlib.util
import json
import sys
from collections.abc import Sequence

from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateSchema

from tidemill.bus.migrations import MIGRATIONS as BUS
from tidemill.db import Database, open_database
from tidemill.db.migrations import BASE, HEAD, Migrations
from tidemill.exits import FAILED, REFUSED, exit_code, told
from tidemill.faults import StartRefused
from tidemill.settings import SERVICES, MeshSettings

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('tidemill schema ' || :name, 0))"


def chains_of(service: str) -> list[Migrations]:
    """The bus's tables, and the service's own if it has any."""
    name = f"services.{service}.migrations"
    own = importlib.util.find_spec(name)
    return [BUS, *([importlib.import_module(name).MIGRATIONS] if own else [])]


async def migrate(service: str, settings: MeshSettings, to: str) -> dict[str, dict[str, str]]:
    """Returns what the database was at and is at, by chain."""
    async with open_database(settings.database_url(service), schema=service) as database:
        await make_schema(database, service)
        told = {}
        for chain in chains_of(service):
            before = await at(database, chain)
            await move(database, chain, to)
            told[chain.name] = {"before": before, "after": await at(database, chain)}
        return told


async def make_schema(database: Database, service: str) -> None:
    """PostgreSQL's; a role that may not create one finds it made by someone who may."""
    if database.is_file:
        return
    async with database.changing_tables() as connection:
        await connection.execute(text(LOCK), {"name": service})
        if not await connection.run_sync(has_schema, service):
            await connection.execute(CreateSchema(service))


def has_schema(connection: Connection, name: str) -> bool:
    return connection.dialect.has_schema(connection, name)


async def at(database: Database, chain: Migrations) -> str:
    async with database.changing_tables() as connection:
        return await connection.run_sync(chain.current) or BASE


async def move(database: Database, chain: Migrations, to: str) -> None:
    """to: "head", "base", or a revision of this chain; that of another chain moves nothing."""
    async with database.changing_tables() as connection:
        if to == HEAD:
            await connection.run_sync(chain.upgrade)
        elif to == BASE or chain.has(to):
            await connection.run_sync(chain.go, to)


async def work(services: Sequence[str], to: str) -> None:
    settings = MeshSettings()
    if to not in (HEAD, BASE) and not any(c.has(to) for s in services for c in chains_of(s)):
        raise StartRefused("REVISION_UNKNOWN", f"no chain of {', '.join(services)} has {to}")
    for service in services:
        told = await migrate(service, settings, to)
        sys.stdout.write(json.dumps({"service": service, **told}) + "\n")


def main() -> int:
    """0: done. 1: the database is away or refuses. 2: the request makes no sense."""
    parser = argparse.ArgumentParser(prog="python -m services.migrate", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of services; all by default")
    parser.add_argument("--to", default=HEAD, metavar="REVISION", help="head (default), base, ...")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(SERVICES))
    if unknown:
        parser.error(f"no such service: {', '.join(unknown)}; there are {', '.join(SERVICES)}")
    try:
        return exit_code(work(options.names or SERVICES, options.to))
    except DBAPIError as error:
        return told("MIGRATION_REFUSED", type(error.orig).__name__, FAILED)
    except CommandError as error:
        return told("REVISION_UNKNOWN", str(error), REFUSED)


if __name__ == "__main__":
    sys.exit(main())
