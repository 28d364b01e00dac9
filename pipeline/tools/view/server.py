"""Who may ask, and what every answer says of itself: for this machine's owner, and nobody else.

Patients' images are behind it, and any page that is open in a browser can send requests to
127.0.0.1. So each path begins with a random token, names that lead here by DNS are refused by
their Host, pages of elsewhere by their Origin, and a browser may load nothing from elsewhere.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

from pipeline.errors import PipelineError, one_line

HOST = "127.0.0.1"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
PATIENCE_S = 60  # for a request that was begun, and for each piece of its answer
PIECE_BYTES = 2**16
TEXT = "text/plain; charset=utf-8"
log = logging.getLogger(__name__)


# path below the token → media type and content; None: not there
Answers = Callable[[str], tuple[str, bytes] | None]


class Server(ThreadingHTTPServer):
    """Answers on 127.0.0.1 alone; a browser that went away is no fault."""

    daemon_threads = True

    def __init__(self, port: int, answer: Answers, at_work: Lock) -> None:
        self.answer = answer
        self.at_work = at_work
        self.token = secrets.token_urlsafe(32)
        super().__init__((HOST, port), Handler)

    @property
    def address(self) -> str:
        """The address of the page, with the token."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    @property
    def hosts(self) -> tuple[str, str]:
        """How a browser on this machine names the server."""
        return f"{HOST}:{self.server_port}", f"localhost:{self.server_port}"

    def server_close(self) -> None:
        """Wait for a volume that is being made: C++ aborts when Python ends around it."""
        super().server_close()
        self.at_work.acquire()  # for good: none is begun any more

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Say in one line what ended a request."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            log.error("not answered: %s: %s", type(error).__name__, one_line(error or ""))


def open_server(port: int, answer: Answers, at_work: Lock) -> Server:
    """A server that listens; port 0 chooses a free one.

    `at_work` is held by `answer` while it makes what takes long.

    Raises:
        PipelineError: the port is taken, or not permitted.
    """
    try:
        return Server(port, answer, at_work)
    except OSError as error:
        found = f"found {port}, which cannot be used ({error.strerror})"
        raise PipelineError(f"--port: {found}; leave it out for a free one") from None


class Handler(BaseHTTPRequestHandler):
    """One request: refused, or answered with the headers that keep the page to itself."""

    server: Server
    server_version = "grcsf"
    sys_version = ""
    timeout = PATIENCE_S

    def do_GET(self) -> None:
        """Answer a path that begins with the token."""
        token, slash, path = self.path.partition("?")[0].removeprefix("/").partition("/")
        known = hmac.compare_digest(token.encode(), self.server.token.encode())
        # without the slash, the page would ask for its script and style at other paths
        if not known or not slash or not self._is_from_here():
            self.send_error(HTTPStatus.FORBIDDEN, "open the address that grcsf view printed")
            return
        try:
            content = self.server.answer(path)
        except (PipelineError, OSError) as error:
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
            return
        except Exception as error:  # such as too little memory: the page says it of this layer
            fault = f"{type(error).__name__}: {one_line(error)}"
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, fault)
            return
        if content is None:
            self.send_error(HTTPStatus.NOT_FOUND, "there is nothing here")
            return
        self._send(HTTPStatus.OK, *content)

    def _is_from_here(self) -> bool:
        hosts, origins = self.server.hosts, self.headers.get_all("Origin", [])
        named = self.headers.get_all("Host", [])
        own = {f"http://{host}" for host in named}
        return len(named) == 1 and named[0] in hosts and own.issuperset(origins)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """A refusal or a fault as plain text; faults of a request that is none come here, too."""
        self._send(
            code, TEXT, (message or explain or HTTPStatus(code).phrase).encode(errors="replace")
        )

    def _send(self, code: int, kind: str, content: bytes) -> None:
        self.send_response(code)
        for name, value in {**HEADERS, "Content-Type": kind}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        # the timeout is one of each write: a whole volume may take minutes through a tunnel
        for start in range(0, len(content), PIECE_BYTES):
            self.wfile.write(memoryview(content)[start : start + PIECE_BYTES])

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Requests are not told: their paths hold the token."""
