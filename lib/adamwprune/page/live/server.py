"""Hands out what was seen, over HTTP, on 127.0.0.1 and to nobody else.

There are three addresses and no files. A request names this machine in its ``Host``, or it is
refused: a foreign site whose name was made to mean 127.0.0.1 reads nothing here. The port it names
may be any: that of an SSH tunnel is the user's choice.
"""

import gzip
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from adamwprune.base.errors import UserError
from adamwprune.page.live.seen import Answer, Watched

ADDRESS = "127.0.0.1"
PORT = 8765
HOSTS = (ADDRESS, "localhost")
VARIABLE = "WATCH_PORT"
FREE = f"{VARIABLE}=0 takes a free one"
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "frame-ancestors 'none'",  # a document's own cannot say it
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
COMPRESSION = 1  # of zlib's nine: a tenth of the size, in 5 ms for 1,000 runs


def port_of(text: str) -> int:
    """The port that a user names; the usual one for an empty text."""
    if not text:
        return PORT
    if not (text.isascii() and text.isdigit() and int(text) < 2**16):
        raise UserError(f"{VARIABLE}={text}: a port is a number below 65536; {FREE}")
    return int(text)


class Server(ThreadingHTTPServer):
    """Listens on 127.0.0.1 from when it is made; :class:`UserError` where it may not."""

    daemon_threads = True  # Ctrl-C waits for no page
    answers: Mapping[str, Callable[[], Answer]]

    def __init__(self, port: int) -> None:
        try:
            super().__init__((ADDRESS, port), Handler)
        except OSError as error:
            raise UserError(f"port {port} of {ADDRESS}: {error.strerror}; {FREE}") from None
        self.answers = {}

    @property
    def url(self) -> str:
        """What a browser is given."""
        return f"http://{ADDRESS}:{self.server_port}/"

    def show(self, watched: Watched) -> None:
        """Answer requests until interrupted."""
        self.answers = {
            "/": watched.document,
            "/report.json": watched.report,
            "/live.json": watched.live,
        }
        self.serve_forever()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that was closed meanwhile is nothing to tell; all else is, on the terminal."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server
    server_version, sys_version = "adamwprune", ""
    timeout = 10.0  # seconds that a silent client may hold a thread

    def do_GET(self) -> None:
        """Hand out what the address names, unless the page has it."""
        if not self._is_for_us():
            told = f"this is {ADDRESS}, and the request names another host\n"
            return self._send(HTTPStatus.MISDIRECTED_REQUEST, told.encode())
        answer = self.server.answers.get(self.path.partition("?")[0])
        if answer is None:
            return self._send(HTTPStatus.NOT_FOUND, b"there is no such address\n")
        try:
            found = answer()
        except Exception:
            told = "there is no answer: the terminal of make watch says why\n"
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, told.encode())
            raise
        tag = f'"{found.digest}"'
        if tag in self.headers.get("If-None-Match", ""):
            return self._send(HTTPStatus.NOT_MODIFIED, None, {"ETag": tag})
        headers = {"ETag": tag, "Content-Type": found.kind, "Vary": "Accept-Encoding"}
        body = found.body
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body, COMPRESSION, mtime=0)
        return self._send(HTTPStatus.OK, body, headers)

    do_HEAD = do_GET

    def refuse(self) -> None:
        """Nothing can be changed here."""
        told = b"only GET and HEAD\n"
        self._send(HTTPStatus.METHOD_NOT_ALLOWED, told, {"Allow": "GET, HEAD"})

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = refuse

    def _is_for_us(self) -> bool:
        named = self.headers.get_all("Host", [])
        try:
            return len(named) == 1 and urlsplit(f"//{named[0]}").hostname in HOSTS
        except ValueError:
            return False

    def _send(
        self, status: HTTPStatus, body: bytes | None, headers: Mapping[str, str] | None = None
    ) -> None:
        """An answer; the connection ends with it."""
        self.send_response(status)
        given = {**HEADERS, **(headers or {})}
        if body is not None:
            given.setdefault("Content-Type", "text/plain; charset=utf-8")
            given["Content-Length"] = str(len(body))
        for name, value in given.items():
            self.send_header(name, value)
        self.end_headers()
        if body is not None and self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """A page asks every other second: nothing to tell."""
