"""A real PostgreSQL: the one TIDEMILL_TEST_POSTGRES names, or our own from Debian's package."""

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.engine import make_url

from tests.ports import free_port_base

GIVEN = "TIDEMILL_TEST_POSTGRES"
DEBIAN = Path("/usr/lib/postgresql")
MISSING = f"PostgreSQL is missing: apt-get install postgresql, or name one with {GIVEN}"
OWNER = "postgres"
START_SECONDS = "60"


def binaries() -> Path | None:
    """Folder of initdb and pg_ctl; Debian keeps them off the PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    return next((f.parent for f in sorted(DEBIAN.glob("*/bin/initdb"), reverse=True)), None)


def given() -> str:
    """URL of a server that is there already, or nothing."""
    return os.environ.get(GIVEN, "")


def running() -> Iterator[str]:
    """For a fixture: URL of the server that is there, or of our own; skips where neither is."""
    if given():
        yield given()
        return
    if binaries() is None:
        pytest.skip(MISSING)
    own = Server(free_port_base())
    yield own.url
    own.remove()


def empty_database(server: str) -> str:
    """URL of a new database on the server at this URL."""
    url, name = make_url(server), f"t{uuid.uuid4().hex[:12]}"
    with psycopg.connect(libpq_url(server), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return url.set(database=name).render_as_string(hide_password=False)


def libpq_url(url: str) -> str:
    """Of an SQLAlchemy URL."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


@dataclass
class Server:
    """Started on a port; stop() and start() keep its data. Root may not run one, so root has it
    run by the owner that Debian's package made."""

    port: int
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="tidemill-pg-")))

    def __post_init__(self) -> None:
        if self._user:
            shutil.chown(self.folder, self._user)
        self._run("initdb", "--auth", "trust", "--username", OWNER, "--encoding", "UTF8")
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://{OWNER}@127.0.0.1:{self.port}/{OWNER}"

    def start(self) -> None:
        # A power cut is not what is tried with it, so it need not wait for the disk.
        options = f"-p {self.port} -c fsync=off -k {self.folder} -c listen_addresses=127.0.0.1"
        log = str(self.folder / "log")
        self._run("pg_ctl", "start", "-w", "-t", START_SECONDS, "-l", log, "-o", options)

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-m", "immediate")

    def signal(self, number: signal.Signals) -> None:
        """To the postmaster and every process that serves a connection."""
        first = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        for each in (first, *map(int, children)):
            os.kill(each, number)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _user(self) -> str | None:
        return OWNER if os.geteuid() == 0 else None

    def _run(self, program: str, *arguments: str) -> None:
        folder = binaries()
        assert folder, MISSING
        subprocess.run(
            [folder / program, "-D", self.folder / "data", *arguments],
            check=True, user=self._user, group=self._user, cwd=self.folder,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
