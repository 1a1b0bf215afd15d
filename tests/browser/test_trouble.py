"""What goes wrong on the page is said, and mended where it can be."""

import socket
from pathlib import Path

from playwright.sync_api import expect

from genie_lite.play.config import PlayConfig
from tests.browser.conftest import Join
from tests.playing import offer, served


def test_an_upload_that_is_no_picture_is_refused_in_a_line(codes: str, join: Join) -> None:
    player = join(codes)
    player.press("1")
    player.bring("song.mp3", "audio/mpeg", b"ID3" + bytes(300))
    expect(player.page.locator("#start-error")).to_be_visible()
    expect(player.page.locator("#start-error")).not_to_be_empty()
    player.photograph("upload-refused")
    player.press("2")  # the game goes on
    player.complaints = [each for each in player.complaints if "400" not in each and "415" not in each]
    assert player.complaints == []


def test_a_huge_file_is_not_even_sent(tmp_path: Path, join: Join) -> None:
    with served(offer(tmp_path), PlayConfig(upload_bytes=2000)) as address:
        player = join(address)
        player.bring("huge.png", "image/png", bytes(3000))
        expect(player.page.locator("#start-error")).to_contain_text("at most")


def test_what_cannot_be_done_is_said_and_the_game_goes_on(game: str, join: Join) -> None:
    player = join(game)
    player.page.check("#twin")
    player.page.wait_for_selector("canvas#twin-game")
    player.page.get_by_role("tab", name="Codes").click()
    player.page.keyboard.press("1")
    expect(player.page.locator(".toast")).to_contain_text("takes actions only")
    player.photograph("refused")
    player.page.get_by_role("tab", name="Actions").click()
    player.press("1")


def test_a_full_house_asks_politely_and_lets_in_later(tmp_path: Path, join: Join) -> None:
    with served(offer(tmp_path), PlayConfig(sessions=1, gone_s=0)) as address:
        first = join(address)
        second = join(address, wait=False)
        second.expect_state("busy")
        expect(second.page.locator("#veil-title")).to_have_text("All places are taken")
        second.photograph("busy")
        first.page.close()
        second.page.click("#veil-now")
        second.expect_state("ready")
        second.press("1")


def test_a_game_that_was_given_up_is_taken_up_again(tmp_path: Path, join: Join) -> None:
    with served(offer(tmp_path), PlayConfig(idle_s=0.6)) as address:
        player = join(address)
        player.press("1", "2")
        seen = player.pixels()
        player.expect_state("resting")
        expect(player.page.locator("#veil-title")).to_have_text("The world fell asleep")
        player.photograph("resting")
        player.page.click("#veil-now")
        player.expect_state("playing")
        player.expect_moment(0, 2)
        assert (player.pixels() == seen).all()


def test_the_server_goes_and_comes_back(tmp_path: Path, join: Join) -> None:
    port = free_port()
    with served(offer(tmp_path), port=port) as address:
        player = join(address)
        player.press("1", "2", "3")
        seen = player.pixels()
    player.expect_state("offline")
    expect(player.page.locator("#banner")).to_contain_text("The server does not answer")
    assert (player.pixels() == seen).all()  # it is still there to be looked at
    player.photograph("offline")
    with served(offer(tmp_path), port=port):
        # The new server knows nothing: the page plays its game again, to the same frame.
        player.page.click("#banner-now")
        player.expect_state("playing")
        player.expect_moment(0, 3)
        expect(player.page.locator("#banner")).to_be_hidden()
        assert (player.pixels() == seen).all()
        player.press("4")


# Keeps hold of the page's sockets, so that a test can break one.
SOCKETS = """
  window.sockets = [];
  window.WebSocket = class extends WebSocket {
    constructor(address) {
      super(address);
      window.sockets.push(this);
    }
  };
"""


def test_a_dropped_socket_resumes_with_its_branches(codes: str, join: Join) -> None:
    player = join(codes)
    player.page.add_init_script(SOCKETS)
    player.visit()
    player.press("1", "2", "3")
    player.rewind_to(1)
    player.expect_moment(0, 1)
    player.page.keyboard.press("4")
    player.expect_moment(1, 2)
    film = player.page.get_attribute("#film-link", "href")
    player.page.evaluate("() => window.sockets.at(-1).close()")
    player.page.wait_for_function("() => window.sockets.length === 2")
    player.expect_state("playing")
    player.press("1")
    expect(player.page.locator(".lane-go")).to_have_count(2)
    assert player.page.get_attribute("#film-link", "href") == film  # the server's same game


def free_port() -> int:
    """One that nobody listens at now, to be used twice."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
