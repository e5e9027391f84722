"""An API that a test holds in its hand: it tells of each request, and answers when it is let."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Api:
    """What arrived so far, and the gate before the answers."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.keys: set[str | None] = set()
        self.gate = threading.Event()
        self.gate.set()
        self._arrived = threading.Semaphore(0)
        self.base_url = ""

    def wait_for_request(self) -> None:
        """Return once another request has arrived."""
        assert self._arrived.acquire(timeout=60)

    def take(self, body: dict[str, Any], key: str | None) -> tuple[int, dict[str, Any]]:
        prompt = body["messages"][0]["content"]
        self.prompts.append(prompt)
        self.keys.add(key)
        self._arrived.release()
        self.gate.wait(60)
        if "refuse me" in prompt:
            error = {"type": "invalid_request_error", "message": "refused"}
            return 400, {"type": "error", "error": error}
        return 200, {
            "id": f"msg_{len(self.prompts)}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [{"type": "text", "text": f"Answer to: {prompt}"}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 5, "output_tokens": 7},
        }


@contextmanager
def running_api() -> Iterator[Api]:
    api = Api()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, answer = api.take(body, self.headers["authorization"])
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A worker that was killed does not listen to its answer."""

    with Server(("127.0.0.1", 0), Handler) as server:
        api.base_url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield api
        finally:
            api.gate.set()
            server.shutdown()
            thread.join()
