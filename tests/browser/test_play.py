"""The page is played: keys, buttons, names, seeds, policies, own pictures."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import expect

from genie_lite.play.offer import open_offer
from genie_lite.steer import Ride, play
from tests.browser.conftest import Join
from tests.browser.player import Player
from tests.playing import png_of, prompt


def frames_of(run: Path, codes: list[int], seed: int, start: np.ndarray | None = None) -> np.ndarray:
    """What the world of a run shows, without any server or page."""
    offer = open_offer(run)
    prompt = offer.starts.frames(0) if start is None else start
    return play(offer.world, Ride(prompt, np.array(codes), seed))[0].frames


def test_the_page_opens_on_the_first_start(codes: str, join: Join, run: Path) -> None:
    player = join(codes)
    player.expect_moment(0, 0)
    offer = open_offer(run)
    assert (player.pixels() == offer.starts.frames(0)[-1]).all()
    assert player.page.title() == "tiny"
    assert player.page.locator(".act").count() == offer.world.num_codes
    assert player.page.locator(".thumb").count() == 1 + len(offer.starts)
    expect(player.page.locator("#hint")).to_have_text("Press a key, or a card below")
    expect(player.page.locator("#back")).to_be_disabled()
    player.photograph("ready")
    assert player.complaints == []


def test_keys_show_the_frames_of_their_codes(codes: str, join: Join, run: Path) -> None:
    player = join(codes)
    seen = []
    for key in "1432":
        player.press(key)
        seen.append(player.pixels())
    assert (np.stack(seen) == frames_of(run, [0, 3, 2, 1], 0)).all()
    expect(player.page.locator("#latency")).not_to_have_text("–")
    player.photograph("playing")


def test_cards_act_like_their_keys(codes: str, join: Join, run: Path) -> None:
    player = join(codes)
    player.page.click(".act[data-index='2'] button")
    player.expect_moment(0, 1)
    assert (player.pixels() == frames_of(run, [2], 0)[-1]).all()
    assert player.page.evaluate("document.activeElement.tagName") == "BODY"  # space is not the card's now
    player.press(" ")
    assert (player.pixels() == frames_of(run, [2, 2], 0)[-1]).all()


def test_a_held_key_repeats_until_it_is_let_go(codes: str, join: Join) -> None:
    player = join(codes)
    player.page.locator("#rate").fill("30")
    player.page.keyboard.down("1")
    player.expect_frame(4)
    expect(player.page.locator(".act[data-index='0']")).to_have_class("act on")
    player.page.keyboard.up("1")
    expect(player.page.locator(".act.on")).to_have_count(0)
    player.expect_rest()


def test_no_tap_is_lost_while_the_server_is_behind(codes: str, join: Join, run: Path) -> None:
    player = join(codes)
    for key in "1234":
        player.page.keyboard.press(key)
    player.expect_moment(0, 4)
    assert (player.pixels() == frames_of(run, [0, 1, 2, 3], 0)[-1]).all()


def test_the_world_runs_at_the_chosen_rate_until_it_is_paused(codes: str, join: Join) -> None:
    player = join(codes)
    player.page.locator("#rate").fill("30")
    expect(player.page.locator("#rate-text")).to_have_text("30 per second")
    player.page.keyboard.press("Enter")
    expect(player.page.locator("#run")).to_have_attribute("aria-pressed", "true")
    player.expect_frame(5)
    expect(player.page.locator("#fps")).not_to_have_text("–")
    player.page.click("#run")
    expect(player.page.locator("#run")).to_have_text("Run")
    player.expect_rest()


def test_another_seed_is_another_world_and_the_same_seed_the_same(codes: str, join: Join, run: Path) -> None:
    player = join(codes)
    player.page.fill("#seed", "41")
    player.page.press("#seed", "Enter")
    player.expect_moment(0, 0)
    player.page.locator("#stage").focus()
    player.press("2", "1")
    assert (player.pixels() == frames_of(run, [1, 0], 41)[-1]).all()
    player.page.click("#dice")
    player.expect_moment(0, 0)
    assert player.page.input_value("#seed") not in ("0", "41")


def test_a_code_is_given_a_name_and_arrows_follow_it(codes: str, join: Join, run: Path) -> None:
    player, other = join(codes), join(codes)
    name = player.page.get_by_label("Name of code 3")
    name.fill("left")
    name.press("Enter")
    expect(other.page.get_by_label("Name of code 3")).to_have_value("left")
    player.press("ArrowLeft")
    assert (player.pixels() == frames_of(run, [3], 0)[-1]).all()
    expect(player.page.locator(".act[data-index='3'] kbd")).to_have_text("←")
    player.photograph("named")
    name.fill("never kept")
    name.press("Escape")
    expect(name).to_have_value("left")
    name.fill("")
    name.press("Enter")
    expect(other.page.get_by_label("Name of code 3")).to_have_value("")


def test_an_adapted_world_is_played_with_its_actions(game: str, join: Join) -> None:
    player = join(game)
    names = [each.text_content() for each in player.page.locator(".act .called").all()]
    assert names == ["nothing", "left", "right", "up", "down"]
    keys = [each.text_content() for each in player.page.locator(".act kbd").all()]
    assert keys == ["1", "←", "→", "↑", "↓"]
    player.press("ArrowRight", " ")
    assert player.link().endswith("a=2.0")  # right, then nothing
    player.page.get_by_role("tab", name="Codes").click()
    expect(player.page.locator(".act")).to_have_count(4)
    player.press("4")
    assert player.link().endswith("c=2.0.3")


def test_vectors_are_set_with_sliders(arm: str, join: Join) -> None:
    player = join(arm)
    first = player.page.get_by_label("x", exact=True)
    expect(first).to_have_attribute("aria-valuetext", "0.00")
    first.fill("200")
    expect(first).to_have_attribute("aria-valuetext", "1.00")
    player.page.locator("#stage").focus()
    player.press(" ", " ")
    first.fill("0")
    player.page.locator("#stage").focus()
    player.press(" ")
    assert player.link() == "#g=0&s=0&c=2x2.0"
    player.photograph("sliders")
    player.page.get_by_role("button", name="All to the middle").click()
    expect(first).to_have_attribute("aria-valuetext", "0.00")


def test_a_policy_takes_over_and_gives_back(game: str, join: Join) -> None:
    player = join(game)
    player.page.locator("#rate").fill("30")
    player.page.get_by_role("radio", name="brightest").check()
    player.expect_frame(4)
    player.photograph("policy")
    player.page.locator("#stage").focus()
    player.page.keyboard.press("1")
    expect(player.page.get_by_role("radio", name="You")).to_be_checked()
    player.expect_rest()
    player.page.keyboard.press("p")
    expect(player.page.get_by_role("radio", name="brightest")).to_be_checked()
    player.page.keyboard.press("p")
    expect(player.page.get_by_role("radio", name="You")).to_be_checked()


def test_the_real_game_is_shown_beside_the_world(game: str, join: Join) -> None:
    player = join(game)
    player.page.fill("#level", "3")
    player.page.click("#level-form button")
    player.expect_moment(0, 0)
    player.page.check("#twin")
    player.page.wait_for_selector("canvas#twin-game[data-frame='0']")
    assert (player.pixels() == player.pixels("twin-game")).all()
    player.press("ArrowRight")
    expect(player.page.locator("#twin-game")).to_have_attribute("data-frame", "1")
    assert (player.pixels() != player.pixels("twin-game")).any()
    player.photograph("twin")
    player.page.uncheck("#twin")
    expect(player.page.locator("canvas#twin-game")).to_have_count(0)


def test_an_own_picture_is_chosen_dropped_or_pasted(codes: str, join: Join, run: Path) -> None:
    player, picture = join(codes), png_of(prompt(5)[0])
    player.bring("mine.png", "image/png", picture)
    expect(player.page.locator(".thumb[data-start^='upload'][aria-pressed='true']")).to_have_count(1)
    player.press("3")
    assert (player.pixels() == frames_of(run, [2], 0, prompt(5))[-1]).all()
    for number, way in enumerate(("drop", "paste"), 6):
        hand_over(player, way, png_of(prompt(number)[0]))
        expect(player.page.locator(".thumb[data-start^='upload']")).to_have_count(number - 4)
        player.expect_moment(0, 0)
        player.page.wait_for_function(IS_SEEN, arg=prompt(number)[0, 0, 0].tolist())
    player.photograph("own")


IS_SEEN = """wanted => {
  const seen = document.getElementById("world").getContext("2d").getImageData(0, 0, 1, 1).data;
  return wanted.every((value, channel) => seen[channel] === value);
}"""
HAND_OVER = """([way, bytes]) => {
  const carried = new DataTransfer();
  carried.items.add(new File([new Uint8Array(bytes)], "mine.png", { type: "image/png" }));
  const event = way === "drop"
    ? new DragEvent("drop", { dataTransfer: carried, cancelable: true })
    : new ClipboardEvent("paste", { clipboardData: carried, cancelable: true });
  window.dispatchEvent(event);
}"""


def hand_over(player: Player, way: str, data: bytes) -> None:
    player.page.evaluate(HAND_OVER, [way, list(data)])


def test_a_wide_picture_is_cut_like_the_video_was(codes: str, join: Join) -> None:
    file = io.BytesIO()
    Image.new("RGB", (90, 40), (200, 30, 30)).save(file, "JPEG")
    player = join(codes)
    player.bring("wide.jpg", "image/jpeg", file.getvalue())
    expect(player.page.locator(".thumb[data-start^='upload'][aria-pressed='true']")).to_have_count(1)
    player.expect_moment(0, 0)
    assert np.abs(player.pixels().astype(int) - (200, 30, 30)).max() < 8


def test_two_players_play_two_games(codes: str, join: Join, run: Path) -> None:
    first, second = join(codes), join(codes)
    first.press("1")
    second.press("4")
    first.press("2")
    second.press("3")
    assert (first.pixels() == frames_of(run, [0, 1], 0)[-1]).all()
    assert (second.pixels() == frames_of(run, [3, 2], 0)[-1]).all()
