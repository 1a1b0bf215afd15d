"""The page of an inspection: everything that was found is on it, in words, and nothing else can get in."""

import copy
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from genie_lite.inspect.page import render, write_page
from genie_lite.inspect.pictures import Pictures, paint
from genie_lite.inspect.rows import rows_of
from genie_lite.inspect.scatter import HUES, scatter
from tests import inspections, models
from tests.inspections import check, interval
from tests.unit.test_inspect_pictures import clips

VOID = {"meta", "img", "input", "br", "link"}
HOSTILE = '"><script>alert(1)</script>\u202e\n{{ 7 * 7 }}'


class Page(HTMLParser):
    """Collects tags, their attributes and the text, and asserts that tags are balanced."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._open = "", []
        self.feed(html)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return paint(models.lam(window=2).eval(), clips(), rate_hz=10.0)


@pytest.fixture(
    params=[inspections.discrete, inspections.continuous, inspections.failed], ids=lambda made: made.__name__
)
def tree(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param()


def words(html: str) -> str:
    return " ".join(Page(html).text.split())


def test_every_check_is_on_the_page_with_its_meaning_and_its_threshold(
    tree: dict[str, Any], pictures: Pictures
) -> None:
    html = render(tree, pictures)
    text = words(html)
    assert html.count('<article class="check ') == len(tree["checks"])
    for each in tree["checks"]:
        assert each["title"] in text
        assert each["meaning"] in text


def test_the_page_asks_nobody_for_anything(tree: dict[str, Any], pictures: Pictures) -> None:
    page = Page(render(tree, pictures))
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/")), attributes
        for address in re.findall(r"url\(([^)]*)\)", attributes.get("style") or ""):
            assert address.startswith("data:image/")
    policy = next(each["content"] for tag, each in page.tags if each.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_whatever_a_link_or_a_label_points_at_is_there(tree: dict[str, Any], pictures: Pictures) -> None:
    page = Page(render(tree, pictures))
    names = [each["id"] for _, each in page.tags if "id" in each]
    assert len(names) == len(set(names))
    aims = {each["href"] for tag, each in page.tags if tag == "a" and (each["href"] or "").startswith("#")}
    assert aims <= {f"#{name}" for name in names}


def test_names_of_strangers_stay_text(pictures: Pictures) -> None:
    tree = inspections.discrete()
    tree["about"] |= {"title": HOSTILE, "command": HOSTILE, "left_out": [HOSTILE]}
    tree["checks"][0] |= {
        "title": HOSTILE,
        "meaning": HOSTILE,
        "baselines": {HOSTILE: 1.0},
        "outcome": "fails",
    }
    tree["checks"][0] |= {"remedy": HOSTILE, "unit": HOSTILE, "threshold": HOSTILE, "group": HOSTILE}
    tree["verdict"] |= {"sentence": HOSTILE, "why": [HOSTILE + "."]}
    tree["code_action"]["action_names"][3] = HOSTILE
    tree["projection"]["names"][3] = HOSTILE
    listing = copy.deepcopy(pictures.listing)
    listing["starts"][0]["source"] = listing["transfers"][0]["a"] = HOSTILE
    html = render(tree, Pictures(listing, pictures.files))
    assert "script" not in {tag for tag, _ in Page(html).tags}
    assert "\u202e" not in html
    assert "\\u202e" in html
    assert "{{ 7 * 7 }}" in html


def test_the_verdict_is_said_once(pictures: Pictures) -> None:
    text = words(render(inspections.failed(), pictures))
    verdict = text[text.index("any good?") : text.index("Are the codes in use?")]
    assert verdict.count("Not yet") == 1
    assert verdict.count("Most of the alphabet is dead: the codes have collapsed.") == 1
    assert "The decoder ignores the code." in verdict


def test_a_remedy_stands_where_something_is_wrong_and_nowhere_else() -> None:
    tree = inspections.discrete()
    for each in tree["checks"]:
        each["remedy"] = f"Mend {each['name']}."
    text = words(render(tree, None))
    for each in tree["checks"]:
        assert (f"Mend {each['name']}." in text) is (each["outcome"] in ("fails", "unclear"))
    assert text.count("What to change:") == 1
    assert text.count("If it does not hold:") == 1


def test_groups_come_in_their_order_and_unknown_ones_last() -> None:
    tree = inspections.discrete()
    tree["checks"] = [check("x", "else", 1.0, ""), *reversed(tree["checks"])]
    titles = re.findall(r"<h2>([^<]*)</h2>", render(tree, None))
    assert titles[1:7] == [
        "Are the codes in use?",
        "Do they decide what happens next?",
        "Do they carry the action, and nothing else?",
        "Do they mean the same everywhere?",
        "Do they know the true action?",
        "else",
    ]


def test_sections_without_figures_are_left_out() -> None:
    tree = inspections.continuous() | {"projection": None}
    text = words(render(tree, None))
    for absent in (
        "What does each code do",
        "carry over to another clip",
        "stands behind each code",
        "lie together",
    ):
        assert absent not in text
    assert "What needs labels is left out: there are none." in text
    assert "How was this measured?" in text


def test_every_picture_is_in_the_page(pictures: Pictures) -> None:
    html = render(inspections.discrete(), pictures)
    assert html.count("data:image/") == len(pictures.files)
    assert html.count('aria-label="What differs: code 3 from start') == 4
    assert "up 99 %" in words(html)  # what stands behind a code, above its column


def test_codes_that_hardly_differ_are_called_so(pictures: Pictures) -> None:
    same = pictures.listing | {"is_same": True, "strongest_change": 0.004}
    assert "The codes hardly differ:" not in render(inspections.discrete(), pictures)
    assert "The codes hardly differ:" in render(inspections.discrete(), Pictures(same, pictures.files))


def test_what_it_rests_on_is_told(pictures: Pictures, tmp_path: Path) -> None:
    out = write_page(inspections.discrete(), pictures, tmp_path / "deep" / "inspect.html")
    text = words(out.read_text())
    for word in (
        "c" * 64,
        "d" * 64,
        "genie-lite inspect runs/maze-demo",
        "12 345",
    ):
        assert word in text
    assert "<dt>thresholds scene cut</dt><dd>2</dd>" in out.read_text()


# --- rows ------------------------------------------------------------------------------------------------


def test_a_value_beyond_the_threshold_is_drawn_beyond_it() -> None:
    drawn = rows_of(
        check("x", "use", interval(3.0), "dB", threshold="at least 2", baselines={"shuffled": -1.0})
    )
    ours, other = drawn["rows"]
    assert other["dot"] < drawn["zero"] < drawn["limit"] < ours["dot"]
    assert drawn["asked"] == (drawn["limit"], 100 - drawn["limit"])
    assert ours["whisker"][0] < ours["dot"] < sum(ours["whisker"])
    assert (ours["mean"], ours["interval"], other["mean"]) == ("3.00", "2.97 to 3.03", "−1.00")
    assert drawn["asks"] == "at least 2\N{NO-BREAK SPACE}dB"


def test_of_an_upper_threshold_the_lower_side_is_asked_for() -> None:
    drawn = rows_of(check("x", "leak", interval(0.86), "cosine", threshold="at most 0.8"))
    assert drawn["asked"] == (0.0, drawn["limit"])
    assert 0 < drawn["limit"] < drawn["rows"][0]["dot"] < 100


@pytest.mark.parametrize("threshold", ["above 0", "not below 0"])
def test_zero_may_be_the_threshold(threshold: str) -> None:
    drawn = rows_of(check("x", "control", interval(-0.5), "dB", threshold=threshold))
    assert 0 < drawn["rows"][0]["dot"] < drawn["limit"] < 100
    assert drawn["asked"][0] == drawn["limit"]


@pytest.mark.parametrize("threshold", ["", "above the baselines", "95 % interval above 0"])
def test_a_threshold_that_is_no_number_has_no_place(threshold: str) -> None:
    drawn = rows_of(check("x", "actions", interval(0.5), "score", threshold=threshold))
    assert drawn["limit"] is None
    assert drawn["asked"] is None
    assert drawn["asks"] == threshold


def test_shares_are_read_in_percent() -> None:
    drawn = rows_of(
        check("x", "use", interval(0.21), "share", threshold="at most 0.75", baselines={"even": 0.125})
    )
    assert [row["mean"] for row in drawn["rows"]] == ["21.0", "12.5"]
    assert drawn["asks"] == "at most 75\N{NO-BREAK SPACE}%"
    assert drawn["unit"] == "%"
    assert drawn["ends"][0] == "0"


def test_whole_numbers_have_no_digits_after_the_point() -> None:
    drawn = rows_of(check("x", "use", 8.0, "codes", threshold="at least 5", baselines={"alphabet": 8.0}))
    assert [row["mean"] for row in drawn["rows"]] == ["8", "8"]
    assert drawn["rows"][1]["style"] == 2  # a ceiling


def test_one_hopeless_baseline_does_not_crush_the_others() -> None:
    others = {"majority": 0.0, "hold_last": -90.0}
    drawn = rows_of(check("x", "actions", interval(0.6), "score", baselines=others))
    ours, majority, last = drawn["rows"]
    assert ours["dot"] - majority["dot"] > 10
    assert last["is_beyond"]
    assert last["mean"] == "−90.0"
    assert not majority["is_beyond"]


def test_what_is_not_known_is_said_so() -> None:
    unknown = {"mean": None, "low": None, "high": None, "num": 0}
    one = {"mean": 0.5, "low": None, "high": None, "num": 1}
    drawn = rows_of(check("x", "actions", unknown, "score", baselines={"majority": one, "frame": None}))
    assert [row["mean"] for row in drawn["rows"]] == ["unknown", "0.50", "unknown"]
    assert [row["dot"] is None for row in drawn["rows"]] == [True, False, True]
    assert [row["whisker"] for row in drawn["rows"]] == [None] * 3
    tree = inspections.discrete()
    tree["checks"][0] |= {"value": unknown, "baselines": {"majority": one}}
    assert "unknown" in words(render(tree, None))


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 27.31, 1e-6, 1234567.0])
def test_any_number_has_a_place_on_its_axis(value: float) -> None:
    drawn = rows_of(check("x", "use", value, "dB"))
    assert 0 <= drawn["rows"][0]["dot"] <= 100
    assert not drawn["rows"][0]["is_beyond"]
    low, high = (float(end.replace("−", "-")) for end in drawn["ends"])
    assert low < high


# --- scatter ---------------------------------------------------------------------------------------------


def section(labels: list[Any], names: list[str]) -> dict[str, Any]:
    points = [[float(place), float(place % 3), label] for place, label in enumerate(labels)]
    return {"points": points, "how": "pca", "names": names}


def dots(svg: str, style: str) -> int:
    found = re.search(rf'class="point {style}" d="([^"]*)"', svg)
    return found.group(1).count("M") if found else 0


def test_every_point_is_drawn_in_the_colour_of_its_category() -> None:
    drawn = scatter(section([0, 1, 1, 1, 0, 2], ["noop", "left", "right"]))
    assert [(each["name"], each["num"]) for each in drawn["legend"]] == [
        ("left", 3),
        ("noop", 2),
        ("right", 1),
    ]
    for each in drawn["legend"]:
        assert dots(drawn["svg"], f"hue-{each['hue']}") == each["num"]
    assert not drawn["is_code"]


def test_more_categories_than_colours_share_grey() -> None:
    labels = [label for label in range(12) for _ in range(20 - label)]
    drawn = scatter(section(labels, [f"code {label}" for label in range(12)]))
    assert [each["name"] for each in drawn["legend"]] == [
        *(f"code {label}" for label in range(HUES)),
        "5 others",
    ]
    assert sum(each["num"] for each in drawn["legend"]) == len(labels)
    assert drawn["is_code"]
    assert len({each["hue"] for each in drawn["legend"]}) == HUES + 1
    assert len(scatter(section(list(range(8)), list("abcdefgh")))["legend"]) == 8  # grey is a colour, too


def test_a_quantity_is_shaded_in_equal_parts() -> None:
    drawn = scatter(section([place / 10 for place in range(70)], []))
    assert drawn["is_ramp"]
    assert [each["num"] for each in drawn["legend"]] == [10] * 7
    assert [dots(drawn["svg"], f"shade-{shade}") for shade in range(7)] == [10] * 7
    tree = inspections.continuous() | {"projection": section([0.1, 0.5, 0.9], [])}
    assert "main component of the true action" in words(render(tree, None))


def test_points_far_out_do_not_crush_the_others() -> None:
    points = [[place / 1000, (place * 7 % 1000) / 1000, 0] for place in range(1000)]
    drawn = scatter({"points": [*points, [1e6, 0.5, 0]], "how": "pca", "names": ["a"]})
    spots = [float(x) for x in re.findall(r"M([\d.]+) ", drawn["svg"])]
    assert max(spots[:1000]) - min(spots[:1000]) > 200


def test_points_on_one_spot_are_drawn() -> None:
    assert dots(scatter({"points": [[0, 0, 0]] * 3, "how": "pca", "names": ["a"]})["svg"], "hue-0") == 3
