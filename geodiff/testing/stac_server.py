"""Servers on loopback for tests: a real STAC API, a folder of files, and answers of one's own invention."""

from __future__ import annotations

import functools
import http.server
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geodiff.schema import GeodiffError

START_S = 30.0


@dataclass
class StacServer:
    """A running API.

    Attributes:
        url: its root.
        requests: (method, path) of every request, in order.
        failures: statuses to answer with before the API is asked, first to last; each is used once.
    """

    url: str
    requests: list[tuple[str, str]] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)


@contextmanager
def serve_stac(
    items: Sequence[Mapping[str, Any]], *, extensions: Sequence[str] = ("query", "filter")
) -> Iterator[StacServer]:
    """A STAC API (stac-fastapi under uvicorn) that holds ``items``, until the block ends.

    Raises:
        GeodiffError: stac-fastapi, cql2 or uvicorn is not installed, or the server does not start.
    """
    try:
        import uvicorn

        from geodiff.testing.stac_app import make_app
    except ImportError as error:
        raise GeodiffError(f"the STAC server for tests needs {error.name}: pip install 'geodiff[dev]'") from None
    port = _free_port()
    state = StacServer(f"http://127.0.0.1:{port}")
    app = _Front(make_app(items, extensions=extensions), state)
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + START_S
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise GeodiffError(f"the STAC server for tests did not start on port {port}")
            time.sleep(0.01)
        yield state
    finally:
        server.should_exit = True
        thread.join(START_S)


class _Front:
    """Stands before the app: notes every request and answers with the failures that a test ordered."""

    def __init__(self, app: Any, state: StacServer) -> None:
        self.app, self.state = app, state

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.state.requests.append((scope["method"], scope["path"]))
            if self.state.failures:
                status = self.state.failures.pop(0)
                await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
                await send({"type": "http.response.body", "body": b""})
                return
        await self.app(scope, receive, send)


@contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """The files of ``folder`` over http: a static catalogue on the web. Yields the address of the folder."""
    handler = functools.partial(_QuietFiles, directory=str(folder))
    with _running(handler) as url:
        yield url


@contextmanager
def serve_answers(answers: Mapping[str, tuple[int, str]]) -> Iterator[str]:
    """Fixed answers: path (with its query, if any) -> (status, text); 404 for others. Yields the server's address.

    ``{url}`` in a text stands for the server's own address. With a status of 302 the text is where to go; a body is
    promised beside it and never comes.
    """
    with _running(functools.partial(_Canned, answers)) as url:
        yield url


@contextmanager
def _running(handler: Any) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(START_S)


class _QuietFiles(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # one connection for many files

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class _Canned(http.server.BaseHTTPRequestHandler):
    server: http.server.ThreadingHTTPServer

    def __init__(self, answers: Mapping[str, tuple[int, str]], *args: Any) -> None:
        self.answers = answers
        super().__init__(*args)

    def do_GET(self) -> None:
        """Answer with the text of the path."""
        status, text = self.answers.get(self.path, (404, ""))
        body = text.replace("{url}", f"http://127.0.0.1:{self.server.server_port}").encode()
        self.send_response(status)
        if status == http.HTTPStatus.FOUND:
            self.send_header("Location", body.decode())
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.rfile.read(1)  # until the client hangs up
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """Answer as to GET."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
