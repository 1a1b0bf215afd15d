"""Time on the page: rewinding, branches, side by side, links, and what is kept of a game."""

import hashlib
import io
import json
from pathlib import Path

import av
import numpy as np
import pytest
from playwright.sync_api import expect

from genie_lite.play.offer import open_offer
from genie_lite.replay import read_replay
from genie_lite.steer import Ride, play
from tests.browser.conftest import Join
from tests.browser.player import Player
from tests.command_line import start_alone
from tests.playing import png_of, prompt

MOST_DIFFER = 6  # on average, of 255: a film is not exact


def saved(player: Player, link: str) -> bytes:
    """What a download holds."""
    with player.page.expect_download() as download:
        player.page.click(link)
    return Path(download.value.path()).read_bytes()


def test_dragging_rewinds_and_acting_there_begins_a_branch(codes: str, join: Join, run: Path) -> None:
    player = join(codes)
    seen = [player.pixels()]
    for key in "123412":
        player.press(key)
        seen.append(player.pixels())
    player.drag(4, 2)
    player.expect_moment(0, 2)
    expect(player.page.locator("#moment")).to_have_text("frame 2")
    player.photograph("dragging")
    assert (player.pixels() == seen[2]).all()
    player.drop()
    expect(player.page.locator("#hint")).to_have_text("Act from here, and a new branch begins")
    player.page.keyboard.press("4")
    player.expect_moment(1, 3)
    offer = open_offer(run)
    ride = Ride(offer.starts.frames(0), np.array([0, 1, 3]), 0)
    assert (player.pixels() == play(offer.world, ride)[0].frames[-1]).all()
    expect(player.page.locator(".lane-go")).to_have_count(2)
    player.page.get_by_label("Go to the end of branch A").click()
    player.expect_moment(0, 6)
    assert (player.pixels() == seen[6]).all()


def test_branches_stand_side_by_side_at_the_same_frame(codes: str, join: Join) -> None:
    player = join(codes)
    player.press("1", "1", "1", "1")
    first = player.pixels()
    player.rewind_to(1)
    player.expect_moment(0, 1)
    player.page.keyboard.press("2")
    player.expect_moment(1, 2)
    player.press("2", "2")
    player.page.get_by_label("Show branch A beside").click()
    expect(player.page.locator("#branch-0")).to_have_attribute("data-frame", "4")
    assert (player.pixels("branch-0") == first).all()
    player.press("2")  # beyond the end of the other
    expect(player.page.locator(".screen.over figcaption")).to_have_text("Branch A, ends at 4")
    player.rewind_to(2)
    player.expect_moment(1, 2)
    expect(player.page.locator("#branch-0")).to_have_attribute("data-frame", "2")
    player.page.keyboard.press("3")
    player.expect_moment(2, 3)
    player.page.get_by_label("Show branch B beside").click()
    expect(player.page.locator("#branch-1")).to_have_attribute("data-frame", "3")
    player.photograph("side-by-side")


def test_r_rewinds_f_goes_forward_home_and_end_go_all_the_way(codes: str, join: Join) -> None:
    player = join(codes)
    player.press("1", "2", "3")
    last = player.pixels()
    player.page.keyboard.press("r")
    player.expect_moment(0, 2)
    player.page.keyboard.press("f")
    player.expect_moment(0, 3)
    assert (player.pixels() == last).all()
    player.page.keyboard.press("Home")
    player.expect_moment(0, 0)
    player.page.keyboard.press("End")
    player.expect_moment(0, 3)
    player.page.keyboard.down("r")
    player.expect_moment(0, 0)
    player.page.keyboard.up("r")


def test_the_strip_is_a_slider_for_keyboards(codes: str, join: Join) -> None:
    player = join(codes)
    player.press("1", "2", "3")
    slider = player.page.get_by_label("Frame on the timeline")
    slider.focus()
    slider.press("ArrowLeft")
    player.expect_moment(0, 2)
    expect(slider).to_have_attribute("aria-valuetext", "frame 2 of 3, branch A")


def test_a_link_plays_to_the_same_frame(codes: str, join: Join) -> None:
    player = join(codes)
    player.page.locator(".thumb[data-start='gallery-1']").click()
    player.expect_moment(0, 0)
    player.press("1", "1", "1", "4")
    player.rewind_to(2)
    player.expect_moment(0, 2)
    player.page.keyboard.press("3")
    player.expect_moment(1, 3)
    link = player.link()
    assert link == "#g=1&s=0&c=0x2.2"
    player.photograph("link")
    other = join(codes, link)
    other.expect_moment(0, 3)
    assert (other.pixels() == player.pixels()).all()
    other.press("2")  # it goes on from there


def test_a_link_carries_an_own_picture(codes: str, join: Join) -> None:
    player = join(codes)
    player.bring("mine.png", "image/png", png_of(prompt(5)[0]))
    expect(player.page.locator(".thumb[data-start^='upload'][aria-pressed='true']")).to_have_count(1)
    player.press("2", "3")
    link = player.link()
    assert link.startswith("#p=")
    other = join(codes, link)
    other.expect_moment(0, 2)
    assert (other.pixels() == player.pixels()).all()
    assert other.link() == link  # also handed on


@pytest.mark.parametrize(
    "nonsense", ["#g=99&s=0", "#g=0&s=0&c=7777", "#p=AAAA&s=1", "#s=1", "#g=0&c=1x999999999"]
)
def test_a_link_that_leads_nowhere_still_opens_the_page(codes: str, join: Join, nonsense: str) -> None:
    player = join(codes, nonsense)
    player.expect_moment(0, 0)
    player.press("1")


def test_a_link_is_as_long_as_a_game_may_be(codes: str, join: Join) -> None:
    page = join(codes).page
    most = page.evaluate("async () => (await (await fetch('/api/about')).json()).limits.frames")
    read = (
        "async ([hash, most]) => (await import('/static/share.js')).readLink(hash, most)?.path.values.length"
    )
    assert page.evaluate(read, [f"#g=0&s=0&c=1x{most}", most]) == most
    assert page.evaluate(read, [f"#g=0&s=0&c=1x{most + 1}", most]) is None


def test_a_replay_from_the_page_verifies_in_a_fresh_process(
    codes: str, join: Join, run: Path, tmp_path: Path
) -> None:
    player = join(codes)
    player.press("1", "2", "3")
    player.rewind_to(1)
    player.expect_moment(0, 1)
    player.page.keyboard.press("4")
    player.expect_moment(1, 2)
    player.press("4")
    kept = tmp_path / "game.replay"
    kept.write_bytes(saved(player, "#replay-link"))
    replay = read_replay(kept)
    assert replay.ride.codes.tolist() == [0, 3, 3]
    done = start_alone("replay", kept, "--run", run, "--json", folder=tmp_path)
    assert done.code == 0, done.err
    assert json.loads(done.out)["verified"] is True
    world = open_offer(run).world
    again, _ = play(world, Ride(replay.ride.start, replay.ride.codes, replay.ride.seed))
    assert again.sha256 == replay.header.sha256
    shown = hashlib.sha256(player.pixels().tobytes()).hexdigest()
    assert shown == hashlib.sha256(again.frames[-1].tobytes()).hexdigest()


def test_a_film_shows_the_branch(codes: str, join: Join, run: Path) -> None:
    player = join(codes)
    expect(player.page.locator("#film-link")).to_have_attribute("aria-disabled", "true")
    player.press("1", "2", "3", "4")
    player.rewind_to(1)
    player.expect_moment(0, 1)
    player.page.keyboard.press("4")
    player.expect_moment(1, 2)
    player.press("4")
    with av.open(io.BytesIO(saved(player, "#film-link")), "r") as film:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)])
    offer = open_offer(run)
    start = offer.starts.frames(0)
    for taken, is_shown in (([0, 3, 3], True), ([0, 1, 2], False)):
        played, _ = play(offer.world, Ride(start, np.array(taken), 0))
        expected = np.stack([start[-1], *played.frames])
        zoom = frames.shape[1] // expected.shape[1]
        assert len(frames) == len(expected)
        large = expected.repeat(zoom, axis=1).repeat(zoom, axis=2)
        differ = np.abs(frames.astype(int) - large).mean(axis=(1, 2, 3))
        assert (differ.max() < MOST_DIFFER) == is_shown, differ
