"""A TCP relay that can be cut like a cable, or loses PostgreSQL's notifications like a pooler.

In a thread of its own, or as a process: ``python -m tests.relay LISTEN_HOST LISTEN_PORT TARGET_HOST TARGET_PORT``.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
import threading
from collections.abc import Coroutine
from typing import Any

Target = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""

GIVE_UP_SECONDS = 4.0
"""After so long on a dead line both ends' systems give a connection up, as TCP_USER_TIMEOUT makes them."""
CONNECT_SECONDS = 1.0


class Relay:
    """Listens, and carries each connection to the next of its targets that answers.

    ``deaf``: what a PostgreSQL server sends is relayed without NotificationResponse messages. ``last_words``, once
    set: a connection whose client has said this ends when the answer comes, instead of passing it on; once. ``tls``:
    who connects must speak TLS, what is carried on is plain.
    """

    def __init__(
        self,
        *targets: Target,
        host: str = "127.0.0.1",
        port: int = 0,
        deaf: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.last_words: bytes | None = None
        self._targets = list(targets)
        self._deaf = deaf
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._whole = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._carry, host, port, ssl=tls))
        self._run(self._mend())
        self.port: int = self._server.sockets[0].getsockname()[1]

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def cut(self) -> None:
        """Nothing passes any more, in neither direction, and nobody is told."""
        self._run(self._cut())

    def restore(self) -> None:
        """Make it whole again."""
        self._run(self._mend())

    def reset(self) -> None:
        """Abort every connection."""
        self._run(self._abort())

    def close(self) -> None:
        """Abort every connection and end."""
        self._run(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()

    async def _cut(self) -> None:
        self._whole.clear()
        self._loop.call_later(GIVE_UP_SECONDS, self._give_up, set(self._writers))

    def _give_up(self, dead: set[asyncio.StreamWriter]) -> None:
        if not self._whole.is_set():
            for writer in dead & self._writers:
                writer.transport.abort()

    async def _mend(self) -> None:
        self._whole.set()

    async def _abort(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _shut(self) -> None:
        self._server.close()
        self._whole.set()
        await self._abort()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks, timeout=2 * CONNECT_SECONDS)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        other: asyncio.StreamWriter | None = None
        try:
            await self._whole.wait()
            answer, other = await self._connect()
            self._writers.add(other)
            last = asyncio.Event()
            back = self._pass_messages(answer, writer) if self._deaf else self._pass(answer, writer, stop=last)
            await asyncio.gather(self._pass(reader, other, tell=last), back)
        except (OSError, asyncio.IncompleteReadError):  # one end has gone: the other goes too
            for one in filter(None, (writer, other)):
                one.transport.abort()
        finally:
            for one in filter(None, (writer, other)):
                self._writers.discard(one)
                one.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for _ in self._targets:
            target = self._targets.pop(0)
            self._targets.append(target)
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(CONNECT_SECONDS):
                    if isinstance(target, str):
                        return await asyncio.open_unix_connection(target)
                    return await asyncio.open_connection(*target)
        raise ConnectionRefusedError

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        tell: asyncio.Event | None = None,
        stop: asyncio.Event | None = None,
    ) -> None:
        """``tell`` is set at the last words, ``stop`` ends the connection when something comes after that."""
        while data := await reader.read(65536):
            if stop is not None and stop.is_set():
                raise ConnectionAbortedError
            if tell is not None and self.last_words is not None and self.last_words in data:
                self.last_words = None
                tell.set()
            await self._say(writer, data)
        if writer.can_write_eof():
            if not writer.is_closing():
                writer.write_eof()
        else:  # TLS ends both ways at once
            writer.close()

    async def _pass_messages(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A type byte, a length that counts itself, and the rest; the answer to SSLRequest is one byte alone."""
        kind = await reader.readexactly(1)
        if kind == b"N":
            await self._say(writer, kind)
            kind = await reader.readexactly(1)
        while True:
            length = await reader.readexactly(4)
            body = await reader.readexactly(int.from_bytes(length) - 4)
            if kind != b"A":
                await self._say(writer, kind + length + body)
            kind = await reader.readexactly(1)

    async def _say(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        await self._whole.wait()
        writer.write(data)
        await writer.drain()


if __name__ == "__main__":
    Relay((sys.argv[3], int(sys.argv[4])), host=sys.argv[1], port=int(sys.argv[2]))
    print("ready", flush=True)
    threading.Event().wait()
