"""Where remote shards come from: an HTTP server, a store that fsspec knows, or the output of a command.

    https://host/shards                               resumed by Range requests where the server takes them
    s3://bucket/shards, gs://, hf://datasets/...      fsspec; the store's package is the user's to install
    pipe:aws s3 cp s3://bucket/shards/{file} -        WebDataset's form; run by the shell for each file

`{file}` stands for the name of the file in any of them; without it the name is put behind the URL. A command is
run only if the caller allows it, who knows whether the place was written by the user or came with somebody's
folder; what `shards.json` adds to it are plain names of files, which `index.py` makes sure of.

HTTP goes through the standard library and not through fsspec, whose event loop does not outlive the fork of a
loading process, and which reads in blocks what is wanted as one stream.
"""

import io
import re
import select
import shlex
import signal
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from http.client import HTTPException, HTTPMessage, HTTPResponse
from os import killpg
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from genie_lite.errors import UserError

STALL_S = 60.0  # without a byte for so long, a connection counts as broken
GONE = (404, 410)
BUSY = (408, 425, 429)  # with those from 500 on: worth another try
UNSATISFIABLE = 416  # a range beyond the end
COMMAND = "pipe:"

_SCHEME = "[A-Za-z][A-Za-z0-9+.-]*"
_URL = re.compile(f"pipe:|({_SCHEME}::)*{_SCHEME}://")  # fsspec chains schemes by `::`


class Trouble(Exception):
    """The connection failed; another try may do."""


class Absent(Exception):
    """There is no such file, and another try will not change it."""


@runtime_checkable
class Stream(Protocol):
    """A file on its way.

    offset: the place of its first byte, which is 0 where the origin cannot resume. knows_end: an end that came
    too early would raise; otherwise an end is no proof that there is not more.
    """

    offset: int
    knows_end: bool

    def read(self, num_bytes: int) -> bytes:
        """Up to so many bytes, none at the end; raises `Trouble` where that came too early."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Origin(Protocol):
    """A place that shards are fetched from."""

    def open(self, file: str, offset: int) -> Stream:
        """A file from `offset` on, or from its beginning.

        Raises:
            Absent, Trouble: see there.
            UserError: access denied, or a package is missing.
        """
        ...

    def size(self, file: str) -> int | None:
        """Bytes of a file as far as the origin tells; raises `Absent`."""
        ...


def path_of(place: Path | str) -> Path | None:
    """The folder of this machine that is meant, None for a URL or a command."""
    if isinstance(place, Path):
        return place
    if place.startswith("file://"):
        return Path(unquote(urlsplit(place).path))
    return None if _URL.match(place) else Path(place)


def origin_of(url: str, *, allow_commands: bool = False) -> Origin:
    """Choose by the scheme.

    Args:
        url: as above.
        allow_commands: take `pipe:`, which runs whatever it says: only where the user wrote it.

    Raises:
        UserError: the URL cannot work as it stands, or is a command and none is allowed.
    """
    if url.startswith(COMMAND):
        if not allow_commands:
            raise UserError(
                f"{url}: pipe: runs a command; it is only taken from the command line or from the recipe given to "
                "genie-lite run"
            )
        if "{file}" not in url:
            raise UserError(f"{url}: the command lacks {{file}}, which stands for the name of a shard")
        return _Pipe(url.removeprefix(COMMAND))
    if urlsplit(url).scheme in ("http", "https"):
        if "@" in urlsplit(url).netloc:
            raise UserError(
                f"{url.rpartition('@')[2]}: no passwords in a URL; use 'pipe:curl -sfu NAME:WORD URL/{{file}}'"
            )
        if "{file}" not in url and urlsplit(url).query:
            raise UserError(f"{url}: write {{file}} where the name of a shard belongs, before the '?'")
        return _Http(url)
    return _Fsspec(url)


def _with_name(url: str, file: str) -> str:
    return url.replace("{file}", file) if "{file}" in url else f"{url.rstrip('/')}/{file}"


class _Redirects(HTTPRedirectHandler):
    """To http and https alone, where urllib would follow to ftp too, and never from https to what is not."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        """The request that follows; raises a `UserError` where it would lead elsewhere."""
        allowed = ("https",) if req.type == "https" else ("http", "https")
        if urlsplit(newurl).scheme not in allowed:
            fp.close()
            raise UserError(
                f"{req.full_url}: the server redirects to {newurl}, and only {' and '.join(allowed)} is followed "
                "from there; if you trust that place, name it instead"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@cache
def _opener() -> OpenerDirector:
    return build_opener(_Redirects)


class _Http:
    def __init__(self, url: str) -> None:
        self._url = quote(url, safe="%/:=&?~#+!$,;'()*[]{}")  # what is not ASCII

    def open(self, file: str, offset: int) -> Stream:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            # Opened by its scheme, http or https, which `origin_of` has seen; `_Redirects` keeps to these.
            response = _opener().open(Request(_with_name(self._url, file), headers=headers), timeout=STALL_S)
        except HTTPError as error:
            with error:
                if error.code == UNSATISFIABLE and offset:
                    return _PlainStream(io.BytesIO(), offset)  # nothing is left
                raise self._refused(error, file) from error
        except (OSError, HTTPException) as error:
            raise Trouble(_told(error)) from error
        return _HttpStream(response, offset)

    def size(self, file: str) -> int | None:
        try:
            request = Request(_with_name(self._url, file), method="HEAD")
            with _opener().open(request, timeout=STALL_S) as response:
                length = response.headers.get("Content-Length", "")
                return int(length) if length.isdigit() else None
        except HTTPError as error:
            with error:
                if error.code in GONE:
                    raise Absent(f"{error.code} {error.reason}") from error
                return None
        except (OSError, HTTPException):
            return None

    def _refused(self, error: HTTPError, file: str) -> Exception:
        told = f"{error.code} {error.reason}"
        if error.code in GONE:
            return Absent(told)
        if error.code in BUSY or error.code >= 500:
            return Trouble(told)
        return UserError(f"{_with_name(self._url, file)}: refused by the server ({told})")


class _HttpStream:
    """An answer's body. http.client ends it early without a word when the connection breaks."""

    def __init__(self, response: HTTPResponse, offset: int) -> None:
        self._response = response
        self._left = response.length  # None where the server does not say
        self.knows_end = self._left is not None
        place = response.headers.get("Content-Range", "")
        self.offset = offset if response.status == 206 and place.startswith(f"bytes {offset}-") else 0
        if response.status == 206 and offset != self.offset:
            response.close()
            raise Trouble(f"asked for bytes from {offset} on, the server sent '{place}'")

    def read(self, num_bytes: int) -> bytes:
        try:
            data = self._response.read(num_bytes)
        except (OSError, HTTPException) as error:
            raise Trouble(_told(error)) from error
        if self._left is not None:
            self._left -= len(data)
            if not data and self._left:
                raise Trouble("the connection broke off")
        return data

    def close(self) -> None:
        with suppress(OSError):
            self._response.close()


class _Fsspec:
    def __init__(self, url: str) -> None:
        self._url = url
        self._store("")  # an unknown scheme or a missing package is told at once

    def open(self, file: str, offset: int) -> Stream:
        store, path = self._store(file)
        try:
            stream = store.open(path, "rb")
            if offset:
                stream.seek(offset)
        except FileNotFoundError as error:
            raise Absent("no such file") from error
        except PermissionError as error:
            raise UserError(f"{_with_name(self._url, file)}: access denied ({_told(error)})") from error
        except Exception as error:  # every store raises what its own library does
            raise Trouble(_told(error)) from error
        return _PlainStream(stream, offset)

    def size(self, file: str) -> int | None:
        store, path = self._store(file)
        try:
            size = store.info(path).get("size")
        except FileNotFoundError as error:
            raise Absent("no such file") from error
        except Exception:  # as above; it comes to light when the file is fetched
            return None
        return int(size) if size is not None else None

    def _store(self, file: str) -> tuple[Any, str]:
        """The store and the path in it, made anew in each process: fsspec's own do not survive a fork."""
        from fsspec.core import url_to_fs  # here: local shards do without it

        try:
            return url_to_fs(_with_name(self._url, file))
        except (ImportError, ValueError) as error:
            raise UserError(f"{self._url}: cannot be opened: {_told(error)}") from error


class _PlainStream:
    knows_end = True

    def __init__(self, file: Any, offset: int) -> None:
        self._file, self.offset = file, offset

    def read(self, num_bytes: int) -> bytes:
        try:
            return self._file.read(num_bytes)
        except Exception as error:  # every store raises what its own library does
            raise Trouble(_told(error)) from error

    def close(self) -> None:
        with suppress(Exception):
            self._file.close()


class _Pipe:
    def __init__(self, command: str) -> None:
        self._command = command

    def open(self, file: str, offset: int) -> Stream:  # noqa: ARG002, RUF100  a command starts at the beginning
        return _PipeStream(self._command.replace("{file}", shlex.quote(file)))

    def size(self, file: str) -> int | None:  # noqa: ARG002, RUF100
        return None


class _PipeStream:
    """The output of a command, which is in order only if the command ends well."""

    offset = 0
    knows_end = False  # `curl ... | cat` ends well whatever became of curl

    def __init__(self, command: str) -> None:
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            start_new_session=True,  # so that all of a pipeline can be ended
        )
        assert isinstance(self._process.stdout, io.BufferedReader)
        self._output = self._process.stdout

    def read(self, num_bytes: int) -> bytes:
        if not select.select([self._output], [], [], STALL_S)[0]:
            raise Trouble(f"the command gave nothing for {STALL_S:g} s")
        data = self._output.read1(num_bytes)
        if not data and self._ended():
            raise Trouble(f"the command ended with {self._process.returncode}: {self._complaint()}")
        return data

    def close(self) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._output.close()
        self._complaints.close()

    def _ended(self) -> int:
        try:
            return self._process.wait(STALL_S)
        except subprocess.TimeoutExpired as error:
            raise Trouble("the command closed its output and goes on") from error

    def _complaint(self) -> str:
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").split("\n")
        return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "no message")


def _told(error: BaseException) -> str:
    if isinstance(error, URLError) and isinstance(error.reason, BaseException):
        error = error.reason
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:200] or type(error).__name__
