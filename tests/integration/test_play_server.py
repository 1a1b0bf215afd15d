"""A real server, and players who do what players do, and what they should not."""

import base64
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from genie_lite.artifact import write_artifact
from genie_lite.errors import UserError
from genie_lite.models.world import World
from genie_lite.play.config import PlayConfig
from genie_lite.play.guard import HEADERS
from genie_lite.play.offer import Offer
from genie_lite.play.serve import address_of, listen, serve
from genie_lite.play.starts import Start, Starts
from genie_lite.replay import read_replay, verify
from genie_lite.steer import Ride, play
from tests import models, playing
from tests.playing import Frame, Page, page, served

CODES = [0, 3, 3, 1, 2, 0]


def write_run(folder: Path) -> Path:
    """Weights of the world that `playing.offer` plays in, for replays to name."""
    parents = {}
    for stage, model, config in (
        ("tokenizer", tokenizer := models.tokenizer(), tokenizer.config),
        ("lam", lam := models.lam(), lam.config),
        ("dynamics", dynamics := models.dynamics(), dynamics.spec),
    ):
        of = parents if stage == "dynamics" else {}
        parents[stage] = write_artifact(folder / stage, stage, model, config, "", of, {}, {}, 0.0)
    return folder


@pytest.fixture(scope="module")
def offer(tmp_path_factory: pytest.TempPathFactory) -> Offer:
    return playing.offer(write_run(tmp_path_factory.mktemp("runs") / "tiny"))


@pytest.fixture(scope="module")
def address(offer: Offer) -> Iterator[str]:
    """Of a server that all tests share which leave it as it was."""
    config = PlayConfig(upload_bytes=50_000, message_bytes=20_000, bad_messages=3)
    with served(offer, config) as found:
        yield found


def ask(
    address: str, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, Any, bytes]:
    """Status, headers and body of an answer."""
    connection = HTTPConnection(address, timeout=30)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, named)
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    connection.close()
    return found


def error_of(answer: tuple[int, Any, bytes]) -> str:
    return json.loads(answer[2])["error"]


def acted(player: Page, codes: list[int]) -> list[Frame]:
    return [player.act(code, terms="code", seq=number) for number, code in enumerate(codes)]


# --- playing -------------------------------------------------------------------------------------------------


def test_a_game_from_its_start_to_its_replay(address: str, offer: Offer, tmp_path: Path) -> None:
    with page(address) as player:
        first = player.open(index=2, seed=11)
        assert first.moment == (0, 0)
        assert np.array_equal(first.picture, offer.starts.frames(2)[-1])
        shown = acted(player, CODES)
        assert [each.header["seq"] for each in shown] == list(range(len(CODES)))
        assert np.array_equal(player.look(0, 2).picture, shown[1].picture)
        assert player.seek(0, 3).moment == (0, 3)
        player.send("act", action=1, terms="code")
        assert player.next() == {"type": "branch", "id": 1, "parent": 0, "at": 3}
        other = player.until("frame")
        assert other.moment == (1, 4)
        with page(address) as again:
            again.send("resume", session=player.token)
            tree = again.until("tree")
        assert tree["cursor"] == {"branch": 1, "frame": 4}
        assert tree["seed"] == 11
        assert tree["start"] == {"kind": "gallery", "index": 2}
        assert [(each["parent"], each["at"], each["codes"]) for each in tree["branches"]] == [
            (None, 0, CODES),
            (0, 3, [1]),
        ]
        for branch, frames in ((0, shown), (1, [*shown[:3], other])):
            status, headers, data = ask(address, f"/api/sessions/{player.token}/replay?branch={branch}")
            assert status == 200
            assert 'filename="tiny.replay"' in headers["content-disposition"]
            path = tmp_path / f"{branch}.replay"
            path.write_bytes(data)
            found = read_replay(path)
            played = verify(found, World.load(offer.run, found.header.sampling), offer.run)
            assert np.array_equal(played.frames, [each.picture for each in frames])
        status, headers, film = ask(address, f"/api/sessions/{player.token}/film.mp4?branch=1")
        assert (status, headers["content-type"]) == (200, "video/mp4")
        assert film[4:8] == b"ftyp"
        assert "no such game" in error_of(ask(address, "/api/sessions/guessed/film.mp4"))
        assert "branch: found 5" in error_of(ask(address, f"/api/sessions/{player.token}/replay?branch=5"))


def test_two_players_at_once_see_what_each_sees_alone(address: str, offer: Offer) -> None:
    with page(address) as one, page(address) as two:
        one.open(index=0, seed=1)
        two.open(index=1, seed=2)
        seen: dict[int, list[np.ndarray]] = {1: [], 2: []}
        for code in CODES:  # both ask before either is answered
            one.send("act", action=code, terms="code")
            two.send("act", action=3 - code, terms="code")
            seen[1].append(one.until("frame").picture)
            seen[2].append(two.until("frame").picture)
        assert one.token != two.token
    for seed, start, codes in ((1, 0, CODES), (2, 1, [3 - code for code in CODES])):
        ride = Ride(offer.starts.frames(start), np.array(codes), seed)
        assert np.array_equal(seen[seed], play(offer.world, ride)[0].frames)


def test_a_link_plays_what_was_played(address: str) -> None:
    with page(address) as player:
        player.open(seed=5)
        shown = acted(player, CODES)
    with page(address) as player:
        player.open(seed=5, actions=CODES, terms="code")
        again = [player.until("frame") for _ in CODES]
        assert [each.header["code"] for each in again] == CODES
        assert all(np.array_equal(a.picture, b.picture) for a, b in zip(shown, again, strict=True))
        reason = player.refused("open", start={"kind": "gallery", "index": 0}, seed=1, actions=[0, 9])
        assert reason == "action: found 9, expected a whole number from 0 to 3"
        assert player.act(1).moment == (0, len(CODES) + 1)  # the game goes on as if nothing had been said


def test_whoever_acts_while_a_link_is_played_goes_on_from_there(address: str) -> None:
    with page(address) as player:
        player.open(actions=[1] * 4000)
        player.send("act", action=2, seq=5)
        while (shown := player.until("frame")).header["seq"] != 5:
            assert shown.header["code"] == 1
        assert shown.header["code"] == 2
        assert shown.header["frame"] < 4000
        assert player.act(3).header["code"] == 3


def test_a_policy_plays(address: str) -> None:
    with page(address) as player:
        player.open()
        assert player.act(None, driver="random").moment == (0, 1)
        assert "expected one of: random, brightest" in player.refused("act", action=None, driver="me", seq=4)


def test_names_are_told_to_everybody(address: str) -> None:
    with page(address) as one, page(address) as two:
        for player in (one, two):
            player.open()
        one.send("name", code=2, name=" jump ")
        assert one.until("names")["names"] == two.until("names")["names"] == {"2": "jump"}
        assert "code: found 9" in one.refused("name", code=9, name="fly")
        assert "characters that can be printed" in one.refused("name", code=1, name="a\nb")
        assert json.loads(ask(address, "/api/about")[2])["code_names"] == {"2": "jump"}
        one.send("name", code=2, name="")
        assert two.until("names")["names"] == {}


def test_pings_are_answered_while_a_frame_is_being_made(address: str) -> None:
    with page(address) as player:
        player.open(actions=[0] * 200)
        player.send("ping", seq=77)
        assert player.until("pong")["seq"] == 77


def test_what_there_is_to_play(address: str) -> None:
    status, headers, body = ask(address, "/api/about")
    about = json.loads(body)
    assert status == 200
    assert about["title"] == "tiny"
    assert about["frame_hw"] == [16, 16]
    assert about["controls"] == {
        "kind": "code",
        "names": list("0123"),
        "low": [],
        "high": [],
        "codes": [0, 1, 2, 3],
    }
    assert [each["label"] for each in about["starts"]] == ["start 0", "start 1", "start 2"]
    assert about["limits"]["upload_bytes"] == 50_000
    assert about["policies"] == ["random", "brightest"]
    assert headers["x-content-type-options"] == "nosniff"
    for path, kind, mark in (
        ("/api/starts/1.png", "image/png", b"\x89PNG"),
        ("/api/previews/2.webp", "image/webp", b"RIFF"),
    ):
        status, headers, body = ask(address, path)
        assert (status, headers["content-type"], body[:4]) == (200, kind, mark)
    assert json.loads(ask(address, "/api/health")[2])["ok"] is True


# --- starts that players bring -------------------------------------------------------------------------------


def test_an_own_picture_begins_a_game(address: str) -> None:
    picture = playing.prompt(9)[0]
    status, _, body = ask(address, "/api/starts", "POST", playing.png_of(picture))
    name = json.loads(body)["id"]
    assert status == 200
    assert ask(address, f"/api/uploads/{name}.png")[2] == playing.png_of(picture)
    with page(address) as player:
        player.send("open", start={"kind": "upload", "id": name}, seed=3)
        assert np.array_equal(player.until("frame").picture, picture)
        assert player.act(1).moment == (0, 1)
        text = base64.b64encode(playing.png_of(picture)).decode()
        player.send("open", start={"kind": "pixels", "png": text}, seed=3)
        assert player.until("tree")["start"] == {"kind": "pixels"}
        assert np.array_equal(player.until("frame").picture, picture)
        assert "no base64" in player.refused("open", start={"kind": "pixels", "png": "§"}, seed=3)
        assert "not an image" in player.refused("open", start={"kind": "pixels", "png": "aaaa"}, seed=3)
        assert "no such upload" in player.refused("open", start={"kind": "upload", "id": "guessed"}, seed=3)
        assert "start: found 7" in player.refused("open", start={"kind": "gallery", "index": 7}, seed=3)
        assert "no real game is offered" in player.refused(
            "open", start={"kind": "level", "level": 7}, seed=3
        )


def test_bad_uploads_are_told(address: str) -> None:
    assert "not an image" in error_of(ask(address, "/api/starts", "POST", b"hello"))
    answer = ask(address, "/api/starts", "POST", b"", Content_Length="60000")
    assert (answer[0], error_of(answer)) == (413, "upload: too large, expected at most 0.0476837 MiB")
    answer = ask(address, "/api/starts", "POST", b"", Content_Length="five")
    assert answer[0] in (400, 411)
    host, _, port = address.partition(":")
    bomb = playing.png_of(np.zeros((9000, 9000, 3), np.uint8))[:40_000]
    assert "an image of 9000 x 9000 pixels" in error_of(ask(address, "/api/starts", "POST", bomb))
    with socket.create_connection((host, int(port)), timeout=30) as raw:
        raw.sendall(
            b"POST /api/starts HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
        )
        assert b"411" in raw.recv(4096)
    assert ask(address, "/api/health")[0] == 200


# --- what must be refused ------------------------------------------------------------------------------------


def test_nonsense_is_refused_and_a_stream_of_it_ends_the_socket(address: str) -> None:
    with page(address) as player:
        assert "no game has been begun on this socket" in player.refused("act", action=1, seq=5)
        player.open()
        for text in ("{", '{"type": "act", "action": NaN}'):
            player.socket.send(text)
            player.until_refused()
        assert player.act(1).moment == (0, 1)  # a message that makes sense: the count begins anew
        player.socket.send(b"bytes")
        assert player.until_refused() == "message: found bytes, expected JSON text"
        player.send("seek", branch=4, frame=0)
        assert player.until_refused() == "branch: found 4, expected 0 to 0"
        for _ in range(3):
            player.socket.send("{")
        assert player.until_closed() == 1008
    with page(address) as again:  # and the game is still there
        again.send("resume", session=player.token)
        assert again.until("frame").moment == (0, 1)


def test_a_huge_message_ends_the_socket_and_nothing_else(address: str) -> None:
    with page(address) as player:
        player.open()
        player.send("name", code=0, name="a" * 100_000)
        assert player.until_closed() == 1009
    with page(address) as again:
        again.send("resume", session=player.token)
        assert again.until("frame").moment == (0, 0)


def test_foreign_pages_get_nothing(address: str) -> None:
    for name, value in (("Host", "evil.example"), ("Origin", "http://evil.example"), ("Origin", "null")):
        status, _, body = ask(address, "/api/about", "GET", None, **{name: value})
        assert status == 403
        assert json.loads(body)["error"].startswith(("host: found", "origin: found"))
    status, *_ = ask(
        address, "/api/starts", "POST", playing.png_of(playing.prompt()[0]), Origin="http://evil.example"
    )
    assert status == 403
    for rest in ({"origin": "http://evil.example"}, {"additional_headers": {"Host": "evil.example"}}):
        with pytest.raises((InvalidStatus, ConnectionClosed)), page(address, **rest) as player:
            player.open()
    with page(address, origin=f"http://{address}") as player:
        player.open()


def test_the_servers_own_mistakes_are_told_with_every_header(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr("genie_lite.play.server._about", broken)
    answer = ask(address, "/api/about")
    assert (answer[0], error_of(answer)) == (500, "the server made a mistake; its log says which")
    assert HEADERS.items() <= dict(answer[1].items()).items()


def test_whoever_looks_for_starts_keeps_nobody_waiting(offer: Offer) -> None:
    finding, may_end = threading.Event(), threading.Event()

    def find() -> list[Start]:
        finding.set()
        assert may_end.wait(playing.PATIENCE_S)
        return [Start("slow", playing.prompt)]

    slow = replace(offer, starts=Starts(find))
    with served(slow) as address, ThreadPoolExecutor() as askers:
        asked = [askers.submit(ask, address, f"/api/starts/{index}.png") for index in (0, 0, 0, 1)]
        assert finding.wait(playing.PATIENCE_S)
        assert ask(address, "/api/health")[0] == 200
        may_end.set()
        assert [each.result()[0] for each in asked] == [200, 200, 200, 404]


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static/..%2f..%2fcli.py",
        "/static/....//server.py",
        "//etc/passwd",
        "/static//etc/passwd",
        "/api/starts/../../x.png",
        "/api/starts/-1.png",
        "/api/starts/1e3.png",
        "/api/starts/99.png",
        "/api/previews/4.webp",
        "/api/uploads/..%2f..%2fx.png",
        "/api/uploads/%00.png",
        "/api/sessions/..%2f/film.mp4",
        "/docs",
        "/openapi.json",
    ],
)
def test_no_path_leads_elsewhere(address: str, path: str) -> None:
    answer = ask(address, path)
    assert 400 <= answer[0] < 500
    assert "\n" not in error_of(answer)


# --- coming and going ----------------------------------------------------------------------------------------


def test_a_broken_socket_is_resumed_with_everything(address: str) -> None:
    with page(address) as player:
        player.open(index=1, seed=4)
        shown = acted(player, CODES)
        player.seek(0, 2)
        player.act(1)
        player.socket.socket.shutdown(socket.SHUT_RDWR)
    with page(address) as again:
        again.send("resume", session=player.token)
        assert again.until("session") == {"type": "session", "token": player.token, "resumed": True}
        tree = again.until("tree")
        assert tree["branches"][0]["codes"] == CODES
        assert tree["cursor"] == {"branch": 1, "frame": 3}
        assert again.until("frame").moment == (1, 3)
        assert np.array_equal(again.look(0, 6).picture, shown[5].picture)
        assert again.act(2).moment == (1, 4)
        with page(address) as third:  # as a second window does
            third.send("resume", session=player.token)
            assert third.until("frame").moment == (1, 4)
            assert again.until_closed() == 4409
            assert third.act(0).moment == (1, 5)


def test_a_full_server_says_so_and_idle_games_make_room(offer: Offer) -> None:
    with served(offer, PlayConfig(sessions=1, idle_s=0.3)) as address, page(address) as first:
        first.open()
        with page(address) as second:
            second.send("open", start={"kind": "gallery", "index": 0}, seed=1)
            busy = second.next()
            assert isinstance(busy, dict)
            assert busy["type"] == "busy"
            assert "1 games are being played here" in busy["reason"]
            assert second.until_closed() == 1013
        first.until_refused()  # nothing happens for a while
        assert first.until_closed() == 4408
        with page(address) as third:
            assert third.open().moment == (0, 0)
            assert "no such game" in third.refused("resume", session=first.token)


def test_a_server_that_stops_and_starts_again_gives_the_same_frames(tmp_path: Path) -> None:
    with served(playing.offer(tmp_path)) as address, page(address) as player:
        player.open(seed=3)
        shown = acted(player, CODES)
        stopped = player
    with pytest.raises(ConnectionClosed):
        stopped.next()
    port = int(address.rpartition(":")[2])
    with served(playing.offer(tmp_path), port=port) as address, page(address) as player:
        assert "no such game" in player.refused("resume", session=stopped.token)
        player.open(seed=3, actions=CODES, terms="code")
        again = [player.until("frame") for _ in CODES]
        assert all(np.array_equal(a.picture, b.picture) for a, b in zip(shown, again, strict=True))


def test_the_real_game_is_shown_beside_the_world(tmp_path: Path) -> None:
    offer = playing.offer(tmp_path, game=True)
    with served(offer) as address, page(address) as player:
        player.send("open", start={"kind": "level", "level": 5}, seed=1)
        first = player.until("frame")
        player.send("twin", on=True)
        assert player.until("twin")["on"] is True
        with offer.twin(5) as truth:
            assert np.array_equal(first.picture, truth.frame)
            beside = player.until("frame")
            assert beside.twin is not None
            assert np.array_equal(beside.twin, truth.frame)
            shown = player.act(2)
            assert shown.header["action"] == 2
            assert shown.twin is not None
            assert np.array_equal(shown.twin, truth.step(2))
        player.send("twin", on=False)
        assert player.until("twin")["on"] is False
        assert player.until("frame").twin is None


# --- the address ---------------------------------------------------------------------------------------------


def test_an_address_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    assert address_of(listening) == f"http://127.0.0.1:{port}"
    with pytest.raises(
        UserError, match=f"--port: 127.0.0.1 port {port}: somebody listens there already; give another"
    ):
        serve(tmp_path, port=port)
    listening.close()
    with pytest.raises(UserError, match=r"--host: no\.such\.place\.invalid with port 1 is no address"):
        listen("no.such.place.invalid", 1)


def test_the_address_is_told_when_a_frame_can_be_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offer: Offer
) -> None:
    told: list[str] = []
    monkeypatch.setattr("genie_lite.play.serve.open_offer", lambda *_, **__: offer)
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: told.append("served"))
    serve(tmp_path, port=0, say=told.append)
    line, served = told
    assert line.startswith("tiny: play at http://127.0.0.1:")
    assert served == "served"


def test_a_server_ends_although_players_are_there(tmp_path: Path) -> None:
    with served(playing.offer(tmp_path)) as address, page(address) as player:
        player.open(actions=[0] * 10_000)
        player.until("frame")
