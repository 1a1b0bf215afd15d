"""Who may speak to the server, before anything else is read.

A page of a foreign site can send requests to a server on this machine, and by DNS rebinding even under a name of its
own. So requests must name this server as their host, and those that a page sends, sockets among them, must come from
this server's own page. Every answer forbids browsers what the page does not need.
"""

import ipaddress
import json
import socket
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
SHOWN = 60  # characters of what was found
DEFAULT_PORTS = {"http": 80, "https": 443}


class Guard:
    """Stands around a whole app: refuses foreign hosts and origins, adds the headers to every answer."""

    def __init__(self, app: ASGIApp, hosts: Collection[str] = ()) -> None:
        """Guard an app.

        Args:
            app: that is guarded.
            hosts: names that it is reached by, beside localhost, this machine's own and addresses in numbers, which
                nobody can make point elsewhere.
        """
        self._app = app
        self._hosts = {"localhost", socket.gethostname().lower(), *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or socket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        reason = self._complaint(Headers(scope=scope))
        if reason is None:
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
        else:
            await _refuse(reason, _with_headers(send))

    def _complaint(self, headers: Headers) -> str | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        host = _place(hosts[0]) if len(hosts) == 1 else None
        if host is None or not self._is_ours(host[0]):
            return (
                f"host: found {', '.join(hosts)[:SHOWN]!r}, expected the address that genie-lite play printed"
            )
        if not origins:
            return None  # not sent by a page, or a page's own GET
        scheme, _, place = origins[0].partition("://")
        found = _place(place, DEFAULT_PORTS.get(scheme))
        if len(origins) > 1 or found is None or found not in _own(host, scheme):
            return f"origin: found {', '.join(origins)[:SHOWN]!r}, expected this server's own page"
        return None

    def _is_ours(self, name: str) -> bool:
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _place(text: str, default_port: int | None = None) -> tuple[str, int | None] | None:
    """Name and port of `name:port` or `[v6]:port`; None if it is neither."""
    name, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        name, port = text, ""
    if (colon and not text.endswith("]")) and not (port.isascii() and port.isdigit() and len(port) <= 5):
        return None
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    elif ":" in name:
        return None
    return (name.lower(), int(port) if port else default_port) if name else None


def _own(host: tuple[str, int | None], scheme: str) -> set[tuple[str, int | None]]:
    """Origins of a page under this host. A proxy may speak https for this server, which does not know of it."""
    name, port = host
    return {(name, DEFAULT_PORTS.get(scheme) if port is None else port)} if scheme in DEFAULT_PORTS else set()


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", []), *own]}
        await send(message)

    return sent


async def _refuse(reason: str, send: Send) -> None:
    body = json.dumps({"error": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
