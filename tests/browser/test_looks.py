"""The page for everybody: small screens, keyboards, dark and light, less motion, readers of screens."""

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Join
from tests.browser.player import Player

# Every text that is seen, with its colour and what lies behind it, as CSS computes them.
TEXTS = """() => {
  const seen = element => element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })
    && element.getBoundingClientRect().width > 2 && !element.closest("[aria-disabled=true], :disabled, .screens");
  const own = element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (!/^rgba\\(.*, 0\\)$/.test(color)) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = color => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  return [...document.querySelectorAll("body *")].filter(each => own(each) && seen(each))
    .map(each => [each.textContent.trim().slice(0, 40), rgb(getComputedStyle(each).color), rgb(ground(each))]);
}"""
NAMELESS = """() => [...document.querySelectorAll("button, input, a[href], select")]
  .filter(each => each.checkVisibility() || each.matches("input"))
  .filter(each => !(each.getAttribute("aria-label") || each.textContent.trim() || each.labels?.length))
  .map(each => each.outerHTML)"""


def contrast(text: list[int], ground: list[int]) -> float:
    """Of two colours, 1 to 21: WCAG 2.2, relative luminance."""

    def luminance(color: list[int]) -> float:
        part = np.array(color[:3]) / 255
        linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    high, low = sorted((luminance(text), luminance(ground)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def branched(player: Player) -> None:
    """A game with two branches and everything open."""
    player.press("1", "2")
    player.page.keyboard.press("r")
    player.expect_moment(0, 1)
    player.page.keyboard.press("3")
    player.expect_moment(1, 2)
    player.link()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(game: str, join: Join, scheme: str) -> None:
    player = join(game, color_scheme=scheme)
    branched(player)
    player.photograph(f"branches-{scheme}")
    texts = player.page.evaluate(TEXTS)
    faint = [(text, round(contrast(*colors), 2)) for text, *colors in texts if contrast(*colors) < 4.5]
    assert len(texts) > 30
    assert faint == []


def test_dark_and_light_can_be_chosen_and_stay(codes: str, join: Join) -> None:
    player = join(codes, color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = player.page.evaluate(ground)
    player.page.click("#theme")
    dark = player.page.evaluate(ground)
    assert dark != light
    player.visit()
    player.expect_state("ready")
    assert player.page.evaluate(ground) == dark


@pytest.mark.parametrize("width", [360, 768])
def test_a_small_screen_shows_everything(game: str, join: Join, width: int) -> None:
    player = join(game, viewport={"width": width, "height": 740}, has_touch=True)
    player.photograph(f"width-{width}", full_page=True)
    branched(player)
    assert player.page.evaluate("document.documentElement.scrollWidth") <= width
    picture = player.page.locator("#world").bounding_box()
    assert picture is not None
    assert picture["width"] >= 0.6 * min(width, 360)
    player.page.locator(".act[data-index='1'] button").tap()
    player.expect_moment(1, 3)
    cards = player.page.locator(".act button").all()
    assert all((box := card.bounding_box()) and min(box["width"], box["height"]) >= 44 for card in cards)


def test_everything_is_reached_with_the_keyboard(game: str, join: Join) -> None:
    player = join(game)
    player.press("1")
    reached = set()
    for _ in range(60):
        player.page.keyboard.press("Tab")
        reached.add(player.page.evaluate("document.activeElement.id || document.activeElement.className"))
    wanted = {"theme", "help-open", "back", "run", "step", "rate", "tab-action", "seek", "own", "thumb"}
    wanted |= {"level", "twin", "seed", "dice", "film-link", "replay-link", "share"}
    assert wanted <= reached
    card = player.page.locator(".act[data-index='2'] button")
    card.focus()
    outline = card.evaluate("each => getComputedStyle(each).outlineStyle")
    assert outline != "none"
    player.press("Enter", " ")


def test_help_opens_and_closes_with_keys(codes: str, join: Join) -> None:
    player = join(codes)
    player.page.keyboard.press("?")
    expect(player.page.locator("#help")).to_be_visible()
    player.photograph("help")
    player.page.keyboard.press("1")  # does not act behind it
    player.page.keyboard.press("Escape")
    expect(player.page.locator("#help")).to_be_hidden()
    assert player.moment == (0, 0)


def test_everything_has_a_name_and_news_are_told(game: str, join: Join) -> None:
    player = join(game)
    branched(player)
    assert player.page.evaluate(NAMELESS) == []
    expect(player.page.locator("#status")).to_have_text("Frame 2 of 2, branch B")


def test_whoever_wants_less_motion_sees_still_previews(codes: str, join: Join) -> None:
    still, moving = join(codes, reduced_motion="reduce"), join(codes, reduced_motion="no-preference")
    expect(still.page.locator("canvas.preview")).to_have_count(4)
    expect(moving.page.locator("img.preview")).to_have_count(4)
