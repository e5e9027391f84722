"""Servers on loopback that do one thing wrong, byte by byte: what no HTTP server library would do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

CERTIFICATE: Final = """\
-----BEGIN CERTIFICATE-----
MIIBmjCCAUGgAwIBAgIUQJ1uKA+RsKuL0Od7Yshthei/w7YwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMjE3MzcxM1oYDzIxMjYxMDI5
MTczNzEzWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQP1N5AaBceJN4FOEDx8eXyfs/M9RBvKwLqWkh3XD/L6GSdrsMLwhha
2kXZHIMUHAFBLSEnCG86Qjq7YoMG+ELwo28wbTAdBgNVHQ4EFgQUcawSiajuYDnt
6UQe42U2ozxGRZUwHwYDVR0jBBgwFoAUcawSiajuYDnt6UQe42U2ozxGRZUwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDRwAwRAIgQlw7Tuz2phwRfmAO7f0vC5A+Y1Z9h/an9cnHMwbACqYCIEAW
0MPYW06PcGoX94FfQQfZ+hFtsr7VGFEtNoo9yKVo
-----END CERTIFICATE-----
"""
PRIVATE_KEY: Final = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgipL7p+HJq0Zxm408
O8LKVrfvatJZlNmqEA8BTO/96qShRANCAAQP1N5AaBceJN4FOEDx8eXyfs/M9RBv
KwLqWkh3XD/L6GSdrsMLwhha2kXZHIMUHAFBLSEnCG86Qjq7YoMG+ELw
-----END PRIVATE KEY-----
"""
"""Signed by itself, for localhost and 127.0.0.1, until 2126: nobody trusts it, which is its purpose."""


class Server:
    """Where it listens, and how many requests and connections it has seen."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.requests = 0

    async def read_request(self, reader: asyncio.StreamReader) -> bytes:
        """Read one whole request; its head."""
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
        await reader.readexactly(length)
        self.requests += 1
        return head


Handler = Callable[[Server, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(
    handle: Callable[..., Awaitable[None]], *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    """Serve each connection with `handle(server, reader, writer)`; at the end every connection is gone."""
    server, tasks = Server(), set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        tasks.add(asyncio.current_task())
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await handle(server, reader, writer)
        finally:
            writer.transport.abort()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST instead of FIN."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def distrusted_tls(folder: Path) -> ssl.SSLContext:
    """TLS with a certificate that nobody vouches for."""
    (folder / "certificate.pem").write_text(CERTIFICATE)
    (folder / "key.pem").write_text(PRIVATE_KEY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


@contextlib.contextmanager
def full_backlog():
    """A port on which nobody accepts: a connection attempt is neither taken nor refused."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        while True:
            client = stack.enter_context(socket.socket())
            client.settimeout(0.05)
            try:
                client.connect(address)
            except TimeoutError:
                break
        yield address[1]
