"""A real HTTP server in a thread, as good or as bad as a test wants it."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Behaviour:
    """What a server does.

    ranges: takes Range requests. break_after: bytes after which a connection ends, for the first `breaks` requests
    of each file. status: for these files, this answer. moved: for these, a redirection to another URL. busy: the
    first so many requests of a file get 503. stated: what is added to the true length in the header, None to leave
    the header out. asked: every request, as (method, file, first byte).
    """

    ranges: bool = True
    break_after: int = 0
    breaks: int = 0
    status: dict[str, int] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    busy: int = 0
    stated: int | None = 0
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    served: Counter[str] = field(default_factory=Counter)

    def gets(self, file: str) -> list[int]:
        """The first byte of every GET of a file."""
        return [first for method, name, first in self.asked if (method, name) == ("GET", file)]


@contextmanager
def serving(folder: Path, behaviour: Behaviour | None = None) -> Iterator[tuple[str, Behaviour]]:
    """The URL of a server that gives the files of a folder."""
    behaviour = behaviour or Behaviour()

    class Handler(_Handler):
        root, how = folder, behaviour

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/{folder.name}", behaviour
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    root: Path
    how: Behaviour

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        how, name = self.how, Path(urlsplit(self.path).path).name
        wanted = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        how.asked.append((self.command, name, wanted))
        how.served[name] += self.command == "GET"
        path, first = self.root / name, wanted if how.ranges else 0
        if name in how.status:
            return self._refuse(how.status[name])
        if name in how.moved:
            return self._refuse(302, how.moved[name])
        if not path.is_file():
            return self._refuse(404)
        if self.command == "GET" and how.served[name] <= how.busy:
            return self._refuse(503)
        data = path.read_bytes()
        if first and first >= len(data):
            return self._refuse(416)
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        if how.stated is not None:
            self.send_header("Content-Length", str(len(data) - first + how.stated))
        self.end_headers()
        if self.command == "GET":
            is_broken = how.served[name] <= how.breaks
            self.wfile.write(data[first : first + how.break_after] if is_broken else data[first:])

    def _refuse(self, status: int, location: str | None = None) -> None:
        self.send_response(status)
        if location is not None:
            self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""
