"""A TCP proxy that breaks what goes through it, one verb a fault, each direction by itself."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum

READ_BYTES = 16 * 1024


class Way(Enum):
    """A direction: what clients send, or what the server answers."""

    UP = "up"
    DOWN = "down"


BOTH = (Way.UP, Way.DOWN)


@dataclass
class Lane:
    """How bytes of one direction travel. seconds: added to each piece; rate: bytes a second."""

    seconds: float = 0.0
    rate: float = 0.0
    close_seconds: float = 0.0
    moving: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.moving.set()

    async def carry(self, size: int) -> None:
        """Returns when a piece of that size may go on."""
        if self.seconds:
            await asyncio.sleep(self.seconds)
        if self.rate:
            await asyncio.sleep(size / self.rate)
        await self.moving.wait()


@dataclass(eq=False)
class Connection:
    """One client's connection; `lost`: directions whose bytes vanish for as long as it lives."""

    writers: tuple[asyncio.StreamWriter, ...]
    lost: set[Way] = field(default_factory=set)

    def close(self, *, reset: bool = False) -> None:
        for writer in self.writers:
            end = writer.get_extra_info("socket")
            if reset and end is not None:
                # A linger of zero makes the kernel send a reset instead of an end.
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort() if reset else writer.close()


class Proxy:
    """Forwards to `target` (host, port). Verbs act at once, on what is open and what comes."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.port = 0
        self.lanes = {way: Lane() for way in Way}
        self.connections: set[Connection] = set()
        self.accepted = 0
        self._answering = True
        self._refusing = False
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def slow(self, seconds: float, ways: Iterable[Way] = BOTH) -> None:
        """Adds a delay to every piece."""
        for way in ways:
            self.lanes[way].seconds = seconds

    def throttle(self, bytes_a_second: float, ways: Iterable[Way] = BOTH) -> None:
        for way in ways:
            self.lanes[way].rate = bytes_a_second

    def slow_close(self, seconds: float, ways: Iterable[Way] = BOTH) -> None:
        """The end of one side reaches the other that much later."""
        for way in ways:
            self.lanes[way].close_seconds = seconds

    def freeze(self, ways: Iterable[Way] = BOTH) -> None:
        """Holds all bytes back; they arrive once it is healed."""
        for way in ways:
            self.lanes[way].moving.clear()

    def cut(self) -> None:
        """Ends every connection on both sides; new ones are served."""
        self._close_all(reset=False)

    def reset(self) -> None:
        """As cut, by resets."""
        self._close_all(reset=True)

    def refuse(self) -> None:
        """Ends every connection, and each new one at once, until it is healed."""
        self._refusing = True
        self._close_all(reset=True)

    def half_open(self, ways: Iterable[Way] = BOTH) -> None:
        """What is sent over the open connections vanishes for good, and so do their ends: the
        other side is gone without a word. New connections are as silent until it is healed."""
        self._answering = False
        for connection in self.connections:
            connection.lost.update(ways)

    def heal(self) -> None:
        """New connections are well; half-open ones stay lost."""
        self._answering, self._refusing = True, False
        for lane in self.lanes.values():
            lane.seconds = lane.rate = lane.close_seconds = 0.0
            lane.moving.set()

    def _close_all(self, *, reset: bool) -> None:
        for connection in tuple(self.connections):
            connection.close(reset=reset)

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._close_all(reset=True)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        if not self._answering:
            await self._swallow(reader, writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        connection = Connection((writer, far_writer))
        self.connections.add(connection)
        try:
            await asyncio.gather(
                self._pump(connection, Way.UP, reader, far_writer),
                self._pump(connection, Way.DOWN, far_reader, writer),
            )
        finally:
            self.connections.discard(connection)
            connection.close(reset=True)

    async def _swallow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection that was taken and never gets an answer."""
        connection = Connection((writer,), set(BOTH))
        self.connections.add(connection)
        try:
            with suppress(OSError):
                while await reader.read(READ_BYTES):
                    pass
        finally:
            self.connections.discard(connection)
            connection.close(reset=True)

    async def _pump(
        self,
        connection: Connection,
        way: Way,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        lane = self.lanes[way]
        with suppress(OSError):
            while piece := await reader.read(READ_BYTES):
                if way in connection.lost:
                    continue
                await lane.carry(len(piece))
                if way not in connection.lost:
                    writer.write(piece)
                    await writer.drain()
        if way in connection.lost:
            return
        await asyncio.sleep(lane.close_seconds)
        with suppress(OSError, RuntimeError):
            writer.write_eof()


@asynccontextmanager
async def proxied(target: tuple[str, int], port: int = 0) -> AsyncIterator[Proxy]:
    """A proxy on a free port, or on the one given."""
    proxy = Proxy(target)
    await proxy.start(port)
    try:
        yield proxy
    finally:
        await proxy.stop()
