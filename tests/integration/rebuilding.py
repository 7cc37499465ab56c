"""The loss of a service's store, and its rebuild from the log that is left."""

from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path

import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition
from psycopg.sql import SQL, Identifier

from tests import postgres
from tidemill.rebuild import stores
from tidemill.rebuild.files import sqlite_file
from tidemill.rebuild.run import Rebuild, Rebuilt
from tidemill.settings import MeshSettings
from tidemill.topics import CATALOGUE


async def at_once() -> None:
    """There is no service to stop."""


def store_of(settings: MeshSettings, service: str) -> Path:
    found = sqlite_file(settings.database_url(service))
    assert found is not None
    return found


def lose(settings: MeshSettings, service: str) -> None:
    """The service's rows are gone."""
    if settings.db:
        return truncate(settings.db, service)
    folder = store_of(settings, service).parent
    for name in ("rows.db", "rows.db-wal", "rows.db-shm"):
        (folder / name).unlink(missing_ok=True)


def truncate(url: str, schema: str) -> None:
    with psycopg.connect(postgres.libpq_url(url)) as connection:
        found = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,)
        ).fetchall()
        names = [Identifier(schema, name) for (name,) in found if not name.endswith("_revision")]
        connection.execute(SQL("TRUNCATE {}").format(SQL(", ").join(names)))


def rebuilder(settings: MeshSettings, service: str) -> Rebuild:
    make_plan = import_module(f"services.{service}.rebuild").plan
    store = stores.store_of(service, settings)
    return Rebuild(service, settings, make_plan, store, lambda events: None)


async def rebuild(
    settings: MeshSettings, service: str, stopped: Callable[[], Awaitable[None]] = at_once
) -> Rebuilt:
    return await rebuilder(settings, service).run(stopped)


async def ends(settings: MeshSettings) -> dict[str, int]:
    """Records in each topic and its dead letters: what a rebuild must not add to."""
    parts = {topic.name: topic.partitions for topic in CATALOGUE}
    parts |= {topic.dead_letter_name: 1 for topic in CATALOGUE}
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_address)
    await consumer.start()
    try:
        places = [TopicPartition(name, i) for name, count in parts.items() for i in range(count)]
        found = await consumer.end_offsets(places)
    finally:
        await consumer.stop()
    return {name: sum(end for p, end in found.items() if p.topic == name) for name in parts}


async def lost_and_rebuilt(settings: MeshSettings, service: str) -> Rebuilt:
    """Rebuilt twice, once beside the store and once without it: the same content, and not one
    record more on the log."""
    before = await ends(settings)
    compared = await rebuild(settings, service)
    unlike = {k for k, v in compared.before.items() if compared.after.get(k) != v}
    assert compared.same, f"rebuilt otherwise: {unlike}"
    lose(settings, service)
    rebuilt = await rebuild(settings, service)
    assert rebuilt.before == {}
    assert rebuilt.after == compared.before
    assert (rebuilt.counts.published, rebuilt.left) == (0, 0)
    assert await ends(settings) == before
    return rebuilt
