"""Every state of the page in turn, played by somebody; what they see are the pictures of docs/play.md and the README.

    python -m pytest tests/browser/test_pictures.py --play-run RUN --pictures docs/images

plays a run of one's own in place of the tiny world, whatever its actions are, and keeps the pictures and the recording.
"""

import io
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.conftest import Join
from tests.browser.film import FRAME_WH, RATE_HZ, Film, to_webp
from tests.browser.player import Player

ARROWS = {"→": "ArrowRight", "↑": "ArrowUp", "↓": "ArrowDown", "←": "ArrowLeft"}
LEAST_S, MOST_S = 3, 22  # of the recording, without pauses and on a slow machine
MOST_BYTES = 3 * 2**20
MOST_FILMS = 8
MOVING = {"reduced_motion": "no-preference"}


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of the world that is played: of the run that was named, or of a tiny game."""
    if (run := request.config.getoption("--play-run")) is None:
        yield request.getfixturevalue("game")
        return
    with started(run) as address:
        yield address


@contextmanager
def started(run: Path) -> Iterator[str]:
    """A server of a run, as a user starts it."""
    command = [sys.executable, "-m", "genie_lite", "play", str(run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"http://(\S+:\d+)", server.stdout.readline())
            assert found, "the server did not start"
            yield found.group(1)
        finally:
            server.terminate()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_game_is_begun_played_and_branched(stage: str, join: Join, scheme: str) -> None:
    player = come(join, stage, color_scheme=scheme)
    player.expect_moment(0, 0)
    player.pause(1500)  # until the films of the cards are drawn
    player.photograph(f"play-ready-{scheme}")
    first = player.pixels()
    walk(player, 3)
    player.photograph(f"play-playing-{scheme}")
    assert (player.pixels() != first).any()
    branch(player)
    player.photograph(f"play-branches-{scheme}")
    expect(player.page.locator(".lane-go")).to_have_count(2)
    expect(player.page.locator("#branch-0")).to_be_visible()
    assert player.complaints == []


def test_codes_are_seen_beside_the_actions(stage: str, join: Join) -> None:
    player = come(join, stage)
    tab = player.page.locator("#tab-code")
    if tab.is_visible():  # the run knows true actions
        tab.click()
    expect_cards(player)
    player.pause(800)
    player.photograph("play-codes")
    walk(player, 1)
    assert re.fullmatch(r".*&c=\d+(x\d+)?(\.\d+(x\d+)?)*", player.link())


def test_the_real_game_stands_beside_the_world(stage: str, join: Join) -> None:
    player = come(join, stage)
    if not player.page.locator("#twin").is_visible():
        pytest.skip("this run was not recorded from a game")
    player.page.check("#twin")
    player.page.wait_for_selector("#twin-game[data-frame='0']")
    walk(player, 2)
    _, frame = player.moment
    expect(player.page.locator("#twin-game")).to_have_attribute("data-frame", str(frame))
    player.photograph("play-twin")


def test_a_link_leads_others_to_the_same_frame(stage: str, join: Join) -> None:
    player = come(join, stage)
    walk(player, 2)
    link = player.link()
    player.page.locator("#share-box").scroll_into_view_if_needed()
    player.photograph("play-link")
    other = join(stage, link)
    other.expect_moment(*player.moment)
    assert (other.pixels() == player.pixels()).all()


def test_help_lists_the_keys(stage: str, join: Join) -> None:
    player = come(join, stage)
    player.page.keyboard.press("?")
    expect(player.page.locator("#help")).to_be_visible()
    player.photograph("play-help")


def test_a_file_that_is_no_picture_is_refused(stage: str, join: Join) -> None:
    player = come(join, stage)
    player.bring("song.mp3", "audio/mpeg", b"ID3" + bytes(300))
    expect(player.page.locator("#start-error")).to_be_visible()
    player.photograph("play-refused")
    walk(player, 1)


def test_it_is_played_on_a_telephone(stage: str, join: Join) -> None:
    player = come(join, stage, viewport={"width": 360, "height": 740}, device_scale_factor=2)
    walk(player, 2)
    player.photograph("play-small")
    assert player.page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_recording_shows_somebody_play(stage: str, join: Join, request: pytest.FixtureRequest) -> None:
    player = come(join, stage)
    player.pause(1500)
    film = Film(player.page)
    with film.rolling():
        perform(player)
    data = to_webp(film.frames(MOST_S), MOST_BYTES)
    with Image.open(io.BytesIO(data)) as kept:
        assert kept.size == FRAME_WH
        assert getattr(kept, "n_frames", 1) >= LEAST_S * RATE_HZ
    assert len({picture for _, picture in film.pictures}) > 20
    if folder := request.config.getoption("--pictures"):
        (folder / "play.webp").write_bytes(data)


def perform(player: Player) -> None:
    """Act, rewind, go another way, compare, and let a policy go on: about 20 seconds."""
    player.pause(500)
    walk(player, 3)
    player.pause(600)
    branch(player)
    player.pause(1500)
    if player.page.locator("#policy-panel").is_visible():
        player.page.keyboard.press("p")
        player.expect_frame(player.moment[1] + 5)
        player.pause(3500)
        player.page.keyboard.press("p")
    player.pause(800)


def come(join: Join, address: str, **window: object) -> Player:
    """Somebody at the first frame, to whom the cards show what they do."""
    player = join(address, **(MOVING | window))
    expect_cards(player)
    return player


def expect_cards(player: Player) -> None:
    """Wait until the cards have their films; of a large alphabet those have one that are seen first."""
    wanted = min(player.page.locator(".act").count(), MOST_FILMS)
    player.page.wait_for_function(
        "wanted => document.querySelectorAll('.act .preview').length >= wanted", arg=wanted, timeout=300_000
    )


def keys_of(player: Player) -> list[str]:
    """Keys that act here: where an arrow does, the arrows; else numbers; space where vectors are set with sliders."""
    shown = [each.text_content() or "" for each in player.page.locator(".act kbd").all()]
    return [key for sign, key in ARROWS.items() if sign in shown] or [*filter(None, shown)] or [" "]


def walk(player: Player, num: int) -> None:
    """Hold a few keys, one after the other, until each has drawn some frames."""
    keys = keys_of(player)
    for number in range(num):
        hold(player, keys[number % len(keys)], 5)


def hold(player: Player, key: str, num: int) -> None:
    """Hold a key for so many frames, however long they take."""
    _, first = player.moment
    player.page.keyboard.down(key)
    player.expect_frame(first + num)
    player.page.keyboard.up(key)
    player.pause(300)
    player.expect_rest()


def branch(player: Player) -> None:
    """Rewind by dragging, go another way, and put both side by side."""
    _, frame = player.moment
    player.drag(*range(min(frame, 22), 4, -1))
    player.drop()
    player.pause(500)
    hold(player, keys_of(player)[-1], 4)
    player.page.get_by_label("Show branch A beside").click()
    player.pause(600)
    hold(player, keys_of(player)[0], 5)
