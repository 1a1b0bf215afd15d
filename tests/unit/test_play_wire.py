"""What comes over the wire is checked before anything else: messages, hosts and origins."""

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from genie_lite.play.guard import HEADERS, Guard
from genie_lite.play.protocol import (
    Act,
    BadMessage,
    GalleryStart,
    Open,
    PixelStart,
    Seek,
    Shown,
    read_message,
)
from genie_lite.play.tree import Moment
from tests import playing

# --- messages ------------------------------------------------------------------------------------------------


def test_messages_are_read() -> None:
    assert read_message('{"type": "act", "action": 3, "seq": 1}') == Act(type="act", action=3, seq=1)
    assert read_message('{"type": "act", "action": [1, 0.5], "terms": "action"}') == Act(
        type="act", action=[1.0, 0.5]
    )
    assert read_message('{"type": "seek", "branch": 0, "frame": 2}') == Seek(type="seek", branch=0, frame=2)
    found = read_message(
        '{"type": "open", "start": {"kind": "gallery", "index": 3}, "seed": 7, "actions": [0, 1]}'
    )
    assert found == Open(
        type="open", start=GalleryStart(kind="gallery", index=3), seed=7, actions=[0, 1], terms="action"
    )
    found = read_message('{"type": "open", "start": {"kind": "pixels", "png": "aaaa"}, "seed": 7}')
    assert isinstance(found, Open)
    assert isinstance(found.start, PixelStart)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{nope", "message: no valid JSON"),
        ("", "message: no valid JSON"),
        ("[" * 100_000, "message: no valid JSON"),
        ("[]", "message: found "),
        ("null", "message: found None"),
        ('{"action": 1}', "message: found .*type"),
        ('{"type": "fly"}', "message: found .*fly"),
        ('{"type": "act", "action": "1"}', "act.action: found '1'; Input should be a valid"),
        ('{"type": "act", "action": true}', "act.action: found True"),
        ('{"type": "act", "action": -1}', "act.action: found -1; Input should be greater than or equal to 0"),
        ('{"type": "act", "action": NaN}', "act.action: found nan"),
        ('{"type": "act", "action": [NaN]}', "act.action.0: found nan; Input should be a finite number"),
        ('{"type": "act", "action": [Infinity]}', "act.action.0: found inf"),
        ('{"type": "act", "action": 1e99}', "act.action: found 1e"),
        ('{"type": "act", "action": ' + "9" * 5000 + "}", "message: no valid JSON"),
        ('{"type": "act", "action": 1, "sea": 1}', "act.sea: found 1; Extra inputs are not permitted"),
        ('{"type": "act", "terms": "codes"}', "act.terms: found 'codes'; Input should be 'action' or 'code'"),
        ('{"type": "seek", "branch": 0}', "seek.frame: .*Field required"),
        (
            '{"type": "open", "start": {"kind": "file", "path": "/etc/passwd"}, "seed": 1}',
            "open.start: .*'file'",
        ),
        ('{"type": "open", "start": {"kind": "gallery", "index": 0}, "seed": 1e400}', "open.seed: found inf"),
        (
            '{"type": "open", "start": {"kind": "gallery", "index": 0}, "seed": 9007199254740992}',
            "open.seed: found",
        ),
        (
            '{"type": "name", "code": 0, "name": "' + "a" * 101 + '"}',
            "name.name: found 'aaa.*…; String should have",
        ),
    ],
)
def test_what_is_no_message_is_told_in_a_line(text: str, words: str) -> None:
    with pytest.raises(BadMessage, match=f"^{words}") as caught:
        read_message(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_broken_message_is_known_by_its_number() -> None:
    with pytest.raises(BadMessage) as caught:
        read_message('{"type": "act", "action": "x", "seq": 12}')
    assert (caught.value.of, caught.value.seq) == ("act", 12)
    with pytest.raises(BadMessage) as caught:
        read_message('{"type": 5, "seq": -1}')
    assert (caught.value.of, caught.value.seq) == (None, None)


def test_pictures_are_packed() -> None:
    picture, twin = playing.prompt(0, 2)
    shown = Shown("frame", Moment(2, 5), 3, [0.5], picture, 1.23, twin, twin_done=True)
    found = playing.frame_of(shown.packed(9))
    assert found.header == {
        "type": "frame",
        "branch": 2,
        "frame": 5,
        "action": [0.5],
        "code": 3,
        "seq": 9,
        "h": 16,
        "w": 16,
        "ms": 1.2,
        "twin": True,
        "twin_done": True,
    }
    assert np.array_equal(found.picture, picture)
    assert found.twin is not None
    assert np.array_equal(found.twin, twin)


# --- hosts and origins ---------------------------------------------------------------------------------------


async def _page(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def answer_to(kind: str, *headers: tuple[str, str]) -> list[dict[str, Any]]:
    """What a guarded app sends back."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": f"{kind}.connect"}

    scope = {"type": kind, "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers]}
    asyncio.run(Guard(_page, hosts=("My.Lab",))(scope, receive, send))
    return sent


@pytest.mark.parametrize(
    "headers",
    [
        [("host", "localhost:8000")],
        [("host", "127.0.0.1:8000")],
        [("host", "[::1]:8000")],
        [("host", "192.168.3.4")],
        [("host", "my.lab")],
        [("host", "LOCALHOST:8000")],
        [("host", "localhost:8000"), ("origin", "http://localhost:8000")],
        [("host", "[::1]:8000"), ("origin", "http://[::1]:8000")],
        [("host", "my.lab"), ("origin", "https://my.lab")],
        [("host", "my.lab"), ("origin", "http://my.lab:80")],
        [("host", "my.lab:443"), ("origin", "https://my.lab")],
    ],
)
def test_its_own_page_is_served(headers: list[tuple[str, str]]) -> None:
    start, _ = answer_to("http", *headers)
    assert start["status"] == 200
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    assert HEADERS.items() <= found.items()
    assert "default-src 'self'" in found["content-security-policy"]
    assert "frame-ancestors 'none'" in found["content-security-policy"]


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ([], "host: found ''"),
        ([("host", "evil.example:8000")], "host: found 'evil.example:8000'"),
        ([("host", "localhost.evil.example")], "host: found"),
        ([("host", "127.0.0.1.evil.example")], "host: found"),
        (
            [("host", "localhost:8000"), ("host", "evil.example")],
            "host: found 'localhost:8000, evil.example'",
        ),
        ([("host", "localhost:80x")], "host: found"),
        ([("host", "[::1")], "host: found"),
        ([("host", "a:b:c")], "host: found"),
        ([("host", "é" * 500)], "host: found"),
        (
            [("host", "localhost:8000"), ("origin", "http://evil.example")],
            "origin: found 'http://evil.example'",
        ),
        ([("host", "localhost:8000"), ("origin", "null")], "origin: found 'null'"),
        ([("host", "localhost:8000"), ("origin", "")], "origin: found"),
        ([("host", "localhost:8000"), ("origin", "http://localhost:3000")], "origin: found"),
        ([("host", "localhost:8000"), ("origin", "http://localhost")], "origin: found"),
        ([("host", "localhost:8000"), ("origin", "file://localhost:8000")], "origin: found"),
        ([("host", "localhost:8000"), ("origin", "http://127.0.0.1:8000")], "origin: found"),
        (
            [("host", "localhost:8"), ("origin", "http://localhost:8"), ("origin", "http://evil.example")],
            "origin: found",
        ),
    ],
)
def test_foreign_pages_are_refused(headers: list[tuple[str, str]], words: str) -> None:
    start, body = answer_to("http", *headers)
    assert start["status"] == 403
    assert json.loads(body["body"])["error"].startswith(words)
    assert dict(start["headers"])[b"x-content-type-options"] == b"nosniff"
    (closed,) = answer_to("websocket", *headers)
    assert closed["type"] == "websocket.close"
