"""The report of a folder of shards: what it counts, what it shows, and that nothing in it is taken for markup."""

import base64
import hashlib
import io
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.ingest.ingest import ingest
from genie_lite.data.report import facts as clip_facts
from genie_lite.data.report import page as report_page
from genie_lite.data.report.contact_sheet import extreme
from genie_lite.data.report.facts import ClipFact, figure, measure, read_facts, spread
from genie_lite.data.report.histogram import histogram, histogram_of_seconds, histogram_svg
from genie_lite.data.report.page import fair_part
from genie_lite.data.report.reasons import MOST_KINDS, Reasons
from genie_lite.data.report.report import write_data_report
from genie_lite.data.report.survey import STATUSES, Survey, length_s
from genie_lite.data.report.wording import clock, count, duration, edge, percent, short, size, visible
from genie_lite.data.shards.index import load_index
from genie_lite.errors import UserError
from tests.videos import truncate, write

CONFIG = IngestConfig(size_px=32, min_frames=8, segment_frames=40, shard_samples=4)
MARKUP = 'names/<script>alert(1)</script> & "quoted".mp4'
BROKEN_LINE = "names/a\nb\x1b[31m.mp4"
TURNED = "names/\u202egpj.exe.mp4"
BYTES = "names/\udcff\udcfe.mp4"
VOID = {"meta", "img", "link", "br", "input", "hr", "path", "line", "rect"}


def panning(seed: int, num: int, size: int = 32) -> np.ndarray:
    """`t h w c`: a soft texture of its own that moves a pixel per frame."""
    coarse = np.random.default_rng(seed).integers(
        30, 226, (size // 8 + 2, (size + num) // 8 + 2, 3), np.uint8
    )
    soft = cv2.resize(coarse, None, fx=8, fy=8, interpolation=cv2.INTER_LINEAR)
    return np.stack([soft[:size, k : k + size] for k in range(num)])


def still(num: int) -> np.ndarray:
    return panning(99, 1).repeat(num, axis=0)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    videos = folder / "videos"
    for seed in range(4):
        write(videos / "dogs" / f"{seed}.mp4", panning(seed, 24 + seed))
    write(videos / "dogs" / "two shots.mp4", np.concatenate([panning(10, 20), 255 - panning(11, 20)]))
    for seed, name in enumerate([MARKUP, BROKEN_LINE, TURNED, BYTES], start=20):
        write(videos / name, panning(seed, 20))
    shutil.copy(videos / "dogs" / "0.mp4", videos / "copy of 0.mp4")
    for seed in range(2):
        write(videos / "short" / f"{seed}.mp4", panning(30 + seed, 5))
    truncate(write(videos / "bad" / "cut.mp4", panning(40, 20)))
    (videos / "bad" / "text.mp4").write_text("no video")
    (videos / "bad" / "empty.mp4").write_bytes(b"")
    ingest([videos], folder / "corpus", CONFIG)
    return folder / "corpus"


@pytest.fixture
def shards(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "corpus"))


def rows_of(shards: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (shards / "manifest.jsonl").read_text().splitlines()]


def write_rows(shards: Path, rows: list[dict[str, Any]]) -> None:
    (shards / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def tree_of(shards: Path) -> dict[str, Any]:
    return json.loads((shards / "report.json").read_text())


class Page(HTMLParser):
    """A page as a browser would take it. Raises where elements are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.text = html, ""
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, self._open

    @classmethod
    def of(cls, folder: Path) -> "Page":
        return cls((folder / "report.html").read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag, f"</{tag}>"
            self.text += " "

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += data

    def values(self, name: str) -> list[str]:
        return [value for each, value in self.attributes if each == name]


def test_the_page_needs_nothing_but_itself(shards: Path) -> None:
    write_data_report(shards)
    page = Page.of(shards)
    assert page.values("src")
    assert all(address.startswith("data:image/webp;base64,") for address in page.values("src"))
    targets = {address.removeprefix("#") for address in page.values("href")}
    assert targets <= set(page.values("id")), "a link leads to no section"
    assert not {"script", "link", "iframe", "object", "form"} & set(page.tags)
    assert "default-src 'none'" in page.html
    assert "@import" not in page.html
    assert "url(" not in page.html
    assert "prefers-color-scheme: dark" in page.html
    assert "@media print" in page.html
    assert str(shards) not in page.html


def test_every_figure_is_the_manifests_or_the_indexs(shards: Path) -> None:
    summary = write_data_report(shards)
    tree, rows, index = tree_of(shards), rows_of(shards), load_index(shards)
    for status in STATUSES:
        num = sum(row["status"] == status for row in rows)
        assert num > 0
        assert summary[status] == tree["sources"][status] == num
    assert summary["sources"] == tree["sources"]["all"] == len(rows)
    assert tree["sources"]["bytes"] == sum(row["bytes"] for row in rows)
    assert summary["clips"] == tree["clips"] == sum(row["clips"] for row in rows)
    assert summary["frames"] == tree["frames"] == sum(row["frames"] for row in rows)
    assert tree["video"]["kept"] == pytest.approx(tree["frames"] / CONFIG.rate_hz)
    lengths = [seconds for row in rows if (seconds := length_s(row)) is not None]
    assert tree["video"]["in"] == pytest.approx(sum(lengths), abs=0.01)
    assert tree["video"]["unknown_sources"] == len(rows) - len(lengths)
    assert tree["source_seconds"]["num"] == sum(tree["source_seconds"]["counts"]) == len(lengths)
    assert tree["clip_seconds"]["num"] == tree["motion"]["num"] == tree["clips"]
    for split, figures in tree["splits"].items():
        own = [shard for shard in index.shards if shard.split == split]
        assert figures["bytes"] == sum(shard.bytes for shard in own) > 0
        assert figures["clips"] == sum(shard.samples for shard in own)
        assert figures["sources"] == sum(
            row["split"] == split and row["status"] == "ingested" for row in rows
        )
    assert sum(each["sources"] for each in tree["reasons"]) == summary["filtered"] + summary["quarantined"]
    assert tree["faults"] == []


def test_the_page_says_the_figures(shards: Path) -> None:
    summary = write_data_report(shards)
    text = " ".join(Page.of(shards).text.split())
    assert f"from {summary['ingested']} of {summary['sources']} videos" in text
    assert f"Ingested {summary['ingested']} Filtered {summary['filtered']} Quarantined" in text
    assert f"{summary['clips']} clips of 32 × 32 pixels at 10 Hz" in text
    for words in ("an empty file", "duplicate of another", "no shot of at least 8 frames at 10 Hz", "h264"):
        assert words in text
    assert "such as short/0.mp4" in text
    assert "No licence is known" in text


def test_names_are_text_and_every_character_is_seen(shards: Path) -> None:
    rows = rows_of(shards)
    hostile = '</td><img src=x onerror="alert(2)">\n\udcff\u202e'
    rows.append(
        {"source": f"bad/{hostile}", "status": "quarantined", "reason": f"oh {hostile}", "codec": hostile}
    )
    rows.append({"source": hostile, "status": "filtered", "reason": f"duplicate of {hostile}"})
    for row in rows:
        row["licence"] = hostile
        row["dropped"] = {hostile: 2}
    write_rows(shards, rows)
    index = json.loads((shards / "shards.json").read_text())
    index["config"][hostile] = hostile
    (shards / "shards.json").write_text(json.dumps(index))
    write_data_report(shards)
    page = Page.of(shards)
    assert MARKUP in page.text
    assert "names/a\\nb\\x1b[31m.mp4" in page.text
    assert "names/\\u202egpj.exe.mp4" in page.text
    assert "names/\\udcff\\udcfe.mp4" in page.text
    assert page.text.count('</td><img src=x onerror="alert(2)">\\n\\udcff\\u202e') > 5
    assert not {"script", "x"} & {*page.tags, *page.values("src")}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "\u202e" not in page.html


def test_the_contact_sheet_shows_each_source_from_first_to_last_frame(shards: Path) -> None:
    write_data_report(shards)
    page = Page.of(shards)
    sheet = page.html.partition('<section id="sheet">')[2].partition("</section>")[0]
    ingested = [row for row in rows_of(shards) if row["status"] == "ingested"]
    assert sheet.count("<img") == sum(row["clips"] for row in ingested) >= len(ingested)
    dogs = re.search(r'src="([^"]+)" alt="Frames of clip 0 of dogs/0.mp4', sheet)
    assert dogs is not None
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(dogs[1].partition(",")[2]))).convert("RGB"))
    assert pixels.shape == (32, 6 * 32 + 5 * 2, 3)
    first, last = panning(0, 24)[[0, -1]].astype(int)
    assert np.abs(pixels[:, :32] - first).mean() < 12
    assert np.abs(pixels[:, -32:] - last).mean() < 12
    assert np.abs(pixels[:, :32] - last).mean() > 30


def test_clips_are_spread_over_sources_and_always_the_same() -> None:
    facts = [fact(source, segment) for source in "abcdefgh" for segment in range(5)]
    few, more = spread(facts, 4), spread(facts, 12)
    assert len({each.source for each in few}) == 4
    assert len({each.source for each in more}) == 8
    assert len(more) == 12
    assert spread(facts[::-1], 4) == few
    assert {each.key for each in few} <= {each.key for each in more}


def test_the_draw_of_clips_is_not_the_draw_of_the_test_split() -> None:
    names = [f"{k}.mp4" for k in range(200)]
    held_out = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:20]
    shown = {each.source for each in spread([fact(name, 0) for name in names], 20)}
    assert len(shown & set(held_out)) < 10


def test_the_ends_of_a_scale_come_from_different_sources() -> None:
    values = {"a": [0.0, 0.1], "b": [0.5], "c": [3.0]}
    valued = [(value, fact(name, k)) for name, own in values.items() for k, value in enumerate(own)]
    assert [(each.source, each.segment) for each in extreme(valued, 2)] == [("a", 0), ("b", 0)]
    assert [(each.source, each.segment) for each in extreme(valued, 4)] == [
        ("a", 0),
        ("a", 1),
        ("b", 0),
        ("c", 0),
    ]


def fact(source: str, segment: int, **changes: Any) -> ClipFact:
    about: dict[str, Any] = {
        "key": f"{source}-{segment}", "shard": Path("x.tar"), "offset": 0, "size": 0, "source": source,
        "segment": segment, "split": "train", "num_frames": 20, "begin_s": 0.0, "end_s": 2.0, "motion": None,
        "brightness": None, "quality": None,
    }  # fmt: skip
    return ClipFact(**about | changes)


def test_what_the_shards_state_is_taken_and_the_rest_is_measured(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts, _ = read_facts(shards, load_index(shards).shards)
    stated = [clip_facts.replace(each, motion=7.5, brightness=80.0) for each in facts]
    assert clip_facts.measured(stated) == stated
    bare = [clip_facts.replace(each, motion=None, brightness=None) for each in facts]
    for each in clip_facts.measured(bare):
        frames = each.frames()
        assert frames is not None
        assert (each.motion, each.brightness) == measure(frames)
    monkeypatch.setattr(clip_facts, "MOST_MEASURED", 3)
    assert sum(each.motion is not None for each in clip_facts.measured(bare)) == 3


def test_what_is_measured_is_what_the_ingest_measured(shards: Path) -> None:
    facts, _ = read_facts(shards, load_index(shards).shards)
    for each in facts:
        frames = each.frames()
        assert frames is not None
        # The ingest measured before it encoded.
        assert measure(frames) == (pytest.approx(each.motion, rel=0.1), pytest.approx(each.brightness, abs=2))


def test_motion_is_the_change_of_luma_and_brightness_its_mean() -> None:
    dark, light = np.full((8, 8, 3), 40, np.uint8), np.full((8, 8, 3), 60, np.uint8)
    assert measure(np.stack([dark, light, light])) == (10.0, 53.3)
    assert measure(dark[None]) == (0.0, 40.0)
    large = still(3).repeat(8, axis=1).repeat(8, axis=2)
    assert measure(large)[0] == 0.0


def test_clips_are_told_by_their_span_in_the_source(shards: Path) -> None:
    facts, faults = read_facts(shards, load_index(shards).shards)
    assert faults == []
    two = sorted((each.begin_s, each.end_s) for each in facts if each.source == "dogs/two shots.mp4")
    assert two == [pytest.approx((0.0, 2.0)), pytest.approx((2.0, 4.0))]
    write_data_report(shards)
    text = " ".join(Page.of(shards).text.split())
    assert "dogs/two shots.mp4 2 clips · 100 % of 4.0 s kept · among those of most clips 0.0–2.0 s" in text


@pytest.mark.parametrize("damage", ["missing", "shorter", "flipped", "other counts"])
def test_a_damaged_shard_costs_its_own_clips_and_is_named(shards: Path, damage: str) -> None:
    shard = load_index(shards).shards[0]
    path = shards / shard.file
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "shorter":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        path.write_bytes(data.replace(b'"num_frames": ', b'"num_frames"= '))
    else:
        path.write_bytes(data.replace(b'"num_frames": 2', b'"num_frames": 3'))
    with pytest.warns(UserWarning, match=f"1 damaged shards: {shard.file}"):
        summary = write_data_report(shards)
    assert summary["faults"] == 1
    tree, page = tree_of(shards), Page.of(shards)
    assert shard.file in tree["faults"][0]
    assert tree["faults"][0][:40] in page.text
    assert 0 < tree["motion"]["num"] < tree["clips"]


def test_a_clip_that_cannot_be_decoded_is_shown_as_such(shards: Path) -> None:
    shard = load_index(shards).shards[0]
    data = (shards / shard.file).read_bytes()
    (shards / shard.file).write_bytes(data.replace(b"moov", b"junk", 1))
    write_data_report(shards)
    assert "cannot be decoded" in Page.of(shards).text


def test_a_manifest_that_counts_other_clips_than_the_index_is_a_fault(shards: Path) -> None:
    rows = rows_of(shards)
    next(row for row in rows if row["clips"])["clips"] += 5
    write_rows(shards, [*rows, {"source": "x", "status": "eaten"}])
    write_data_report(shards)
    first, second = tree_of(shards)["faults"]
    assert re.fullmatch(r"manifest.jsonl counts \d+ clips, shards.json \d+", first)
    assert "1 rows whose status is none of ingested, filtered, quarantined" in second
    assert "not as they were written" in Page.of(shards).text


def test_new_figures_of_the_manifest_are_told(shards: Path) -> None:
    rows = rows_of(shards)
    dog = next(row for row in rows if row["source"] == "dogs/1.mp4")
    key = next(
        each.key
        for each in read_facts(shards, load_index(shards).shards)[0]
        if each.source == "dogs/two shots.mp4"
    )
    dog |= {"dropped": {"little motion": 3, "near duplicate": 1}, "duplicates": {"4": key}}
    dog |= {"letterbox": [4, 4, 0, 0], "rotation": 90, "frozen": 7, "licence": "CC0"}
    rows.append(
        {"source": "dull.mp4", "status": "filtered", "reason": "no clip is left: 2 little motion",
         "dropped": {"little motion": 2}, "frozen": 12, "source_frames": 40, "seconds": 4.0, "split": "train"}
    )  # fmt: skip
    write_rows(shards, rows)
    write_data_report(shards)
    tree, text = tree_of(shards), " ".join(Page.of(shards).text.split())
    assert tree["dropped"] == [
        {"reason": "little motion", "clips": 3, "example": "dogs/1.mp4"},
        {"reason": "near duplicate", "clips": 1, "example": "dogs/1.mp4"},
    ]
    assert tree["treated"] | {"letterbox": 1, "rotation": 1, "frozen": 1} == tree["treated"]
    assert tree["duplicates"]["sources"] == 1
    assert tree["duplicates"]["clips"] == 1
    assert {"of": key, "num": 1, "names": ["dogs/1.mp4, clip 4"]} in tree["duplicates"]["of"]
    assert tree["licences"] == [{"value": "CC0", "sources": 1, "seconds": pytest.approx(2.5, abs=0.06)}]
    assert re.search(r"dogs/two shots.mp4, clip \d 1 dogs/1.mp4, clip 4", text), "told by name, not by key"
    assert "1 had black bars, which were cut off; 1 had to be turned upright; 1 had frozen frames" in text
    assert "12 frames frozen; 2 × little motion" in text


def test_the_quality_of_clips_is_told_where_it_was_scored(shards: Path) -> None:
    write_data_report(shards)
    assert tree_of(shards)["quality"] is None
    assert "Lowest quality" not in Page.of(shards).text
    survey, tree = Survey(10.0), tree_of(shards)
    facts, _ = read_facts(shards, load_index(shards).shards)
    scored = [clip_facts.replace(each, quality=k / 10) for k, each in enumerate(facts)]
    drawn = histogram([k / 10 for k in range(len(facts))])
    assert drawn is not None
    tree["quality"] = vars(drawn) | {"below": [[0.5, 5]]}
    page = Page(report_page.render(tree, survey, clip_facts.measured(scored)))
    assert "Lowest quality" in page.text
    assert "quality 0.00" in page.text


def test_thousands_of_bad_videos_make_no_large_page(shards: Path) -> None:
    rows = rows_of(shards)
    few = write_data_report(shards)
    small = (shards / "report.html").stat().st_size
    for k in range(3_000):
        reason = f"truncated: {k / 10} s decoded of {k} s" if k % 2 else f"odd {chr(0x4E00 + k)}"
        rows.append({"source": f"web/{k}.mp4", "status": "quarantined", "reason": reason, "bytes": k})
    write_rows(shards, rows)
    many = write_data_report(shards)
    assert many["quarantined"] == few["quarantined"] + 3_000
    assert (shards / "report.html").stat().st_size < small + 500_000
    assert (shards / "report.json").stat().st_size < 200_000
    page = Page.of(shards)
    shown = page.html.count('scope="row"><bdi class="name">web/')
    assert 100 <= shown <= report_page.MOST_ROWS
    told = re.search(
        r"(\d+) videos, the first of every reason; ([\d\u202f]+) more are in manifest", page.text
    )
    assert told is not None
    assert int(told[1]) + int(told[2].replace("\u202f", "")) == many["filtered"] + many["quarantined"]


def test_the_same_shards_give_the_same_report(shards: Path, tmp_path: Path) -> None:
    first = write_data_report(shards, tmp_path / "one")
    second = write_data_report(shards, tmp_path / "two" / "deep")
    assert first["report"] == str(tmp_path / "one" / "report.html")
    for name in ("report.html", "report.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / "deep" / name).read_bytes()
    assert not (shards / "report.html").exists()
    assert {key: value for key, value in first.items() if key != "report"} == {
        key: value for key, value in second.items() if key != "report"
    }
    assert not list(tmp_path.rglob("*.tmp"))


def test_progress_ends_where_all_is_done(shards: Path) -> None:
    told: list[tuple[str, int, int]] = []
    write_data_report(shards, progress=lambda *each: told.append(each))
    for what in ("clips", "pictures"):
        steps = [(done, total) for name, done, total in told if name == what]
        assert [done for done, _ in steps] == list(range(1, steps[0][1] + 1))
        assert len({total for _, total in steps}) == 1


def test_an_ingest_that_could_use_nothing_is_reported_too(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "text.mp4").write_text("no video")
    write(tmp_path / "videos" / "short.mp4", panning(1, 4))
    with pytest.raises(UserError, match="none of 2 videos"):
        ingest([tmp_path / "videos"], tmp_path / "shards", CONFIG)
    summary = write_data_report(tmp_path / "shards")
    assert (summary["sources"], summary["filtered"], summary["quarantined"]) == (2, 1, 1)
    assert summary["clips"] == 0
    page = Page.of(tmp_path / "shards")
    assert "no shot of at least 8 frames" in page.text
    assert not page.values("src")


def test_mistakes_are_one_clear_line(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        write_data_report(tmp_path / "nowhere")
    with pytest.raises(UserError, match="run genie-lite ingest"):
        write_data_report(tmp_path)
    index = json.loads((shards / "shards.json").read_text())
    (shards / "shards.json").write_text(json.dumps(index | {"kind": "tokens", "members": ["json"]}))
    with pytest.raises(UserError, match="holds tokens, expected video"):
        write_data_report(shards)
    (shards / "shards.json").write_text(json.dumps(index | {"config": {"rate_hz": "fast"}}))
    with pytest.raises(UserError, match="rate_hz is missing or no rate"):
        write_data_report(shards)
    (shards / "shards.json").write_text(json.dumps(index))
    for line, complaint in (("{", "line 1 is damaged"), ("[]", "line 1 is no object but list")):
        (shards / "manifest.jsonl").write_text(line)
        with pytest.raises(UserError, match=complaint):
            write_data_report(shards)
    (shards / "manifest.jsonl").unlink()
    with pytest.raises(UserError, match=r"manifest\.jsonl: missing"):
        write_data_report(shards)
    assert not (shards / "report.html").exists()


def test_rows_that_say_little_or_nonsense_are_taken_as_they_are(shards: Path) -> None:
    nonsense = [None, "x", -1, True, 1e300, 10**400, [], {"a": 1}, float("nan"), float("inf")]
    names = ["seconds", "bytes", "clips", "frames", "height", "width", "source_rate_hz", "source_frames"]
    names += ["black", "short", "repeated", "shots", "codec", "dropped", "duplicates", "letterbox", "licence"]
    rows = rows_of(shards)
    for k, value in enumerate(nonsense):
        status = STATUSES[k % 3]
        rows.append({"source": f"{k}", "status": status, "reason": value} | dict.fromkeys(names, value))
    rows += [{}, {"status": []}]
    write_rows(shards, rows)
    write_data_report(shards)
    assert tree_of(shards)["sources"]["all"] == len(rows)
    assert Page.of(shards).text


def test_reasons_that_differ_in_figures_or_names_are_one() -> None:
    reasons = Reasons()
    for k in range(3):
        reasons.add(f"truncated: {k}.5 s decoded of 9.0 s", f"{k}.mp4")
    reasons.add("duplicate of dogs/rex (2).mp4", "a")
    reasons.add("duplicate of x\ny: z", "b")
    reasons.add("not a readable video (Invalid data found when processing input)", "c")
    reasons.add("", "d", num=7)
    assert [(wording, num, example) for _, wording, num, example in reasons] == [
        ("no reason given", 7, "d"),
        ("truncated: … s decoded of 9.0 s", 3, "0.mp4"),
        ("duplicate of another", 2, "a"),
        ("not a readable video", 1, "c"),
    ]


def test_of_hostile_reasons_a_bounded_number_is_kept_apart() -> None:
    reasons = Reasons()
    for k in range(5000):
        reasons.add(f"reason {chr(0x4E00 + k)}", "x")
    found = list(reasons)
    assert len(found) == MOST_KINDS + 1
    assert found[0][1:3] == ("other reasons", 5000 - MOST_KINDS)


def test_every_reason_has_its_part_of_a_long_table() -> None:
    assert fair_part([5, 5], 100) == 5
    assert fair_part([1000, 3, 2], 20) == 15
    assert fair_part([1] * 50, 10) == 1
    assert fair_part([], 10) == 0


def test_a_histogram_counts_every_value_once() -> None:
    random = np.random.default_rng(0)
    for values in (
        random.normal(5, 1, 500),
        random.pareto(1, 500),
        [3.0],
        [0, 0, 0],
        [1e-4, 2e-4],
        [0, 1000],
    ):
        drawn = histogram(values)
        assert drawn is not None
        assert sum(drawn.counts) == drawn.num == len(values)
        assert len(drawn.counts) == len(drawn.edges) - 1 <= 26
        assert drawn.edges[0] <= drawn.lowest
        assert drawn.is_open == (drawn.highest >= drawn.edges[-1])
        Page(histogram_svg(drawn, "a <title>", "x", mark=(drawn.median, "filter")))
    assert histogram([]) is None
    assert histogram([float("nan")]) is None


def test_a_far_off_value_does_not_squeeze_the_others() -> None:
    drawn = histogram([*np.linspace(0, 10, 300), 1e6])
    assert drawn is not None
    assert drawn.is_open
    assert drawn.edges[-1] <= 11
    assert drawn.counts[-1] >= 1
    assert "10 +" in histogram_svg(drawn, "", "") or " +<" in histogram_svg(drawn, "", "")


def test_lengths_from_seconds_to_hours_have_the_edges_of_a_clock() -> None:
    drawn = histogram_of_seconds([0.5, 3, 7, 45, 90, 4000, 4000])
    assert drawn is not None
    assert drawn.edges[0] == 0
    assert drawn.edges[-1] == 7200
    assert dict(zip(drawn.edges[:-1], drawn.counts, strict=True)) | {2: 1, 30: 1, 60: 1, 3600: 2} == dict(
        zip(drawn.edges[:-1], drawn.counts, strict=True)
    )
    even = histogram_of_seconds([3.0, 4.0, 5.5])
    assert even is not None
    assert even.edges[0] == 3.0


def test_figures_in_words() -> None:
    assert [duration(each) for each in (0, 2.94, 42.4, 60, 200, 7500, 4_442_400)] == [
        "0 s", "2.9 s", "42 s", "1 min", "3 min 20 s", "2 h 5 min", "1\u202f234 h",
    ]  # fmt: skip
    assert [size(each) for each in (0, 999, 1000, 36_400, 1.2e9, 5e15)] == [
        "0 B", "999 B", "1.0 kB", "36 kB", "1.2 GB", "5000 TB",
    ]  # fmt: skip
    assert [percent(each) for each in (0, 1e-5, 0.004, 0.5, 0.996, 0.9999, 1)] == [
        "0 %", "< 0.1 %", "0.4 %", "50 %", "99.6 %", "> 99.9 %", "100 %",
    ]  # fmt: skip
    assert [clock(each) for each in (0, 12.44, 59.97, 185, 3723)] == [
        "0.0", "12.4", "1:00.0", "3:05.0", "1:02:03.0",
    ]  # fmt: skip
    assert [edge(each) for each in (0, 2.5, 60, 5400)] == ["0s", "2.5s", "1m", "1.5h"]
    assert count(1234567) == "1\u202f234\u202f567"


def test_what_cannot_be_seen_is_written_out() -> None:
    assert visible("日本 é 👩\u200d🚀 a\u00a0b") == "日本 é 👩\u200d🚀 a\u00a0b"
    assert visible("a\nb\t\u202e\udcff\x00") == "a\\nb\\t\\u202e\\udcff\\x00"
    assert visible(3) == 3
    assert short("x" * 500, 21) == "x" * 6 + "…" + "x" * 14
    assert short("name") == "name"


def test_only_measurable_numbers_are_figures() -> None:
    assert figure(3) == 3.0
    assert figure(-2.5) == -2.5
    assert [figure(each) for each in (None, "3", True, float("nan"), float("inf"), 10**400, [])] == [None] * 7


def test_a_survey_tells_where_the_time_went() -> None:
    survey = Survey(10.0)
    row = {"source": "a/x.mp4", "status": "ingested", "split": "train", "clips": 2, "frames": 150, "bytes": 9}
    row |= {
        "seconds": 19.9,
        "source_rate_hz": 10.0,
        "source_frames": 200,
        "black": 30,
        "short": 12,
        "frozen": 5,
    }
    survey.add(row)
    survey.add({"source": "b/y.mp4", "status": "quarantined", "reason": "no", "bytes": 5})
    assert length_s(row) == pytest.approx(20.0)
    assert survey.kept_s == pytest.approx(15.0)
    assert survey.black_s == pytest.approx(3.0)
    assert survey.short_s == pytest.approx(1.2)
    assert survey.frozen_s == pytest.approx(0.5)
    assert (survey.unknown_length, survey.unknown_bytes) == (1, 5)
    assert {name: dict(each.num) for name, each in survey.folders.items()} == {
        "a": {"ingested": 1},
        "b": {"quarantined": 1},
    }
    assert [each["source"] for each in survey.least_kept.rows] == ["a/x.mp4"]


def test_rates_that_differ_by_rounding_are_one() -> None:
    survey = Survey(10.0)
    for rate in (29.97, 29.9701, 30.0, 30.001, 23.976, 24.0, 12.34):
        survey.add({"source": "x", "status": "ingested", "source_rate_hz": rate})
    assert {each["value"]: each["sources"] for each in survey.rates.tree()} == {
        "29.97 Hz": 2,
        "30 Hz": 2,
        "23.98 Hz": 1,
        "24 Hz": 1,
        "12.34 Hz": 1,
    }


def test_the_report_stands_where_the_shards_cannot_be_written_to(shards: Path, tmp_path: Path) -> None:
    os.chmod(shards, 0o555)
    try:
        summary = write_data_report(shards, tmp_path / "out")
    finally:
        os.chmod(shards, 0o755)
    assert Path(summary["report"]).is_file()
