"""The report: from a run's folder to one page that stands alone and one tree for machines."""

import copy
import hashlib
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from genie_lite.artifact import write_artifact
from genie_lite.data.loading.clip import to_pixels
from genie_lite.data.loading.loader import Clip
from genie_lite.errors import UserError
from genie_lite.evals.charts import Line, line_chart, thin, ticks
from genie_lite.evals.codes import agreement
from genie_lite.evals.gallery import paint, read_gallery, write_gallery
from genie_lite.evals.pictures import animation_webp, data_uri, sheet_webp, strip_png, tile
from genie_lite.evals.report import read_curves, write_report
from genie_lite.evals.tree import to_tree
from genie_lite.evals.verdict import judge
from genie_lite.files import write_json
from genie_lite.models.sampling import SamplingConfig
from genie_lite.models.world import World
from tests import models


def interval(mean: float, half: float = 0.02) -> dict[str, Any]:
    return {"mean": mean, "low": mean - half, "high": mean + half, "num": 12}


def measured() -> dict[str, Any]:
    """Every section, with figures of a run in which all checks hold."""
    by_t = ("1", "4")
    psnr = {"psnr_db": 25.0, "copy_last_psnr_db": 21.0, "ceiling_psnr_db": 31.0}
    series = psnr | {"ssim": 0.9, "copy_last_ssim": 0.8, "ceiling_ssim": 0.95}
    probe = {"code": 0.7, "embedding": 0.8, "majority": 0.3, "random_lam": 0.35, "supervised": 0.9}
    policy = {"latent": 0.5, "random": 0.2, "blind": 0.1, "bc": 0.3, "idm": 0.4, "oracle": 0.7}
    return {
        "about": {"title": "Doors & <b>keys</b>", "lines": {"Labelled transitions": 200}},
        "tokenizer": {"psnr_db": 31.0, "ssim": 0.95, "codes_used": 14, "num_codes": 16, "perplexity": 9.0},
        "lam": {
            "psnr_db": 27.0, "ssim": 0.9, "copy_last_psnr_db": 21.0, "shuffled_psnr_db": 23.0, "gain_db": 6.0,
            "code_gain_db": 4.0, "codes_used": 4, "num_codes": 4, "perplexity": 3.8, "share": [0.25] * 4,
        },
        "rollout": {name: dict.fromkeys(by_t, value) for name, value in series.items()}
        | {
            "gain_db": {t: interval(4.0) for t in by_t},
            "interval": {name: {t: interval(value) for t in by_t} for name, value in series.items()},
            "prompt_frames": 1,
            "episodes": 12,
        },
        "control": {
            "t": 4, "num_draws": 4, "delta_psnr_db": interval(3.0), "noise_delta_psnr_db": interval(0.0),
            "by_t": {str(t): interval(3.0) for t in range(1, 5)},
        },
        "drive": {
            "psnr_db": {t: interval(24.0) for t in by_t}, "drawn_psnr_db": {t: interval(21.5) for t in by_t},
            "inferred_psnr_db": {t: interval(25.0) for t in by_t}, "control_db": {t: interval(2.5) for t in by_t},
            "to_inferred_db": {t: interval(-1.0) for t in by_t},
            "map": {
                "transitions": 8765, "code_accuracy": interval(0.62), "blind_accuracy": interval(0.41),
                "commonest_accuracy": interval(0.27), "round_trip": interval(0.93),
            },
        },
        "probe": {arm: interval(mean) for arm, mean in probe.items()},
        "probe_gain": {"code_over_majority": interval(0.4), "code_over_random_lam": interval(0.35)},
        "probe_about": {"kind": "accuracy", "train_transitions": 900, "test_transitions": 12345},
        "code_action": {
            "counts": [[90, 5, 5], [5, 90, 5], [0, 0, 0], [40, 30, 30]], "action_names": ["noop", "left", "right"],
            "nmi": 0.6, "ami": 0.59, "purity": 0.8,
        },
        "policy": {arm: interval(rate, 0.05) | {"episodes": 400} for arm, rate in policy.items()},
        "policy_gain": {f"latent_over_{arm}": interval(0.5 - policy[arm], 0.05) for arm in ("random", "bc", "oracle")},
        "seconds": {"adapt": 61.0, "ingest": 12.0},
        "hashes": {"labels": "f" * 64},
    }  # fmt: skip


@pytest.fixture(scope="module")
def world() -> World:
    return World(models.tokenizer(), models.lam(), models.dynamics(), SamplingConfig(refinements=2))


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    frames = models.frames(batch=3, num=6)
    frames[1] = frames[1, :1]  # nothing moves in the second episode
    return [Clip(frames, ["a.mp4", "still.mp4", "c.mp4"], [0] * 3)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, world: World, clips: list[Clip]) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "doors"
    data = {"fingerprint": "d" * 64}
    parents = {}
    for stage, model, config in (
        ("tokenizer", world.tokenizer, world.tokenizer.config),
        ("lam", world.lam, world.lam.config),
        ("dynamics", world.dynamics, world.dynamics.spec),
    ):
        given = parents if stage == "dynamics" else {}
        parents[stage] = write_artifact(folder / stage, stage, model, config, "", given, data, {}, 100.0)
        rows = [{"step": step, "split": "train", "loss": 1 / (step + 1)} for step in range(0, 50, 10)]
        rows += [{"step": step, "split": "val", "psnr_db": 20 + step / 10} for step in (20, 40)]
        (folder / stage / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    gallery = paint(world.tokenizer, world.lam, world, clips, rate_hz=10.0, num_frames=4, num_examples=2)
    write_gallery(gallery, folder / "panels")
    write_json(folder / "evaluate.json", measured())
    return folder


@pytest.fixture
def run(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "doors"))


class Page(HTMLParser):
    """What a browser would load, and the text that it would show."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [
            value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")
        ]
        self.loaded += re.findall(r"url\(([^)]*)\)", dict(attrs).get("style") or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_but_itself(run: Path) -> None:
    write_report(run)
    html = (run / "report.html").read_text()
    page = Page(html)
    assert page.loaded
    assert all(each.startswith("data:image/") or each == "#words" for each in page.loaded)
    assert 'id="words"' in html
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "@import" not in html
    assert "default-src 'none'" in html
    assert str(run) not in html


def test_report_json_holds_what_others_script_against(run: Path) -> None:
    tree = write_report(run)
    assert json.loads((run / "report.json").read_text()) == tree
    assert tree["seconds"] == {
        "tokenizer": 100.0,
        "lam": 100.0,
        "dynamics": 100.0,
        "adapt": 61.0,
        "ingest": 12.0,
    }
    assert tree["tokenizer"]["psnr_db"] == 31.0
    assert (tree["lam"]["codes_used"], tree["lam"]["perplexity"]) == (4, 3.8)
    for arm in ("code", "embedding", "majority", "random_lam", "supervised"):
        assert {"mean", "low", "high"} <= tree["probe"][arm].keys()
    assert tree["rollout"]["psnr_db"]["4"] > tree["rollout"]["copy_last_psnr_db"]["4"]
    assert {"mean", "low", "high"} <= tree["control"]["delta_psnr_db"].keys()
    assert all({"mean", "low", "high", "episodes"} <= arm.keys() for arm in tree["policy"].values())
    weights = hashlib.sha256((run / "lam" / "model.safetensors").read_bytes()).hexdigest()
    assert tree["hashes"]["lam"] == weights
    assert tree["hashes"]["shards"] == "d" * 64
    assert tree["hashes"]["labels"] == "f" * 64
    assert tree["verdict"]["answer"] == "Yes"


def test_every_section_that_was_measured_is_on_the_page(run: Path) -> None:
    write_report(run)
    html = (run / "report.html").read_text()
    page = Page(html)
    for word in (
        "Yes.",
        "mostly noop 90",
        "Untrained network, code",
        "From latent actions",
        "Tokenizer's ceiling",
    ):
        assert word in page.text
    assert html.count('aria-label="Code ') == 4
    assert page.text.count("World, random codes") == 2  # of two examples
    assert page.text.index("ingest") < page.text.index("adapt")
    assert "Doors & <b>keys</b>" in page.text  # escaped: a title is text


@pytest.mark.parametrize(
    ("change", "said", "unsaid"),
    [
        (
            {},
            [
                "Codes of what happened",
                "is right in 27 %",
                "93 % have this action",
                "turned into a code",
                "41 % where the map does not see",
            ],
            [],
        ),
        ({"round_trip": None}, ["62 % have the very code"], ["have this action"]),
        (
            {"inferred_psnr_db": {}, "to_inferred_db": {}, "map": None},
            ["was trained on true actions", "Actions of other moments"],
            ["Codes of what happened", "turned into"],
        ),
    ],
)
def test_the_page_says_how_well_true_actions_are_followed(
    run: Path, change: dict[str, Any], said: list[str], unsaid: list[str]
) -> None:
    tree = measured()
    (tree["drive"]["map"] if "round_trip" in change else tree["drive"]).update(change)
    if change.get("map", ...) is None:
        del tree["drive"]["map"]
    write_json(run / "evaluate.json", tree)
    write_report(run)
    text = " ".join(Page((run / "report.html").read_text()).text.split())
    section = text[text.index("Does the world follow true actions?") : text.index("Do the codes know")]
    assert "What true actions add, dB+2.5+2.5 to +2.5" in section
    assert [word for word in said if word not in section] == []
    assert [word for word in unsaid if word in section] == []


def test_the_heading_says_the_runs_name_once(run: Path) -> None:
    for title, heading in (("doors", "Latent action report"), ("Keys", "Latent action report: Keys")):
        write_json(run / "evaluate.json", measured() | {"about": {"title": title, "lines": {}}})
        write_report(run)
        header = (run / "report.html").read_text().partition("<header>")[2].partition("</header>")[0]
        assert Page(header).text.split("\n") == ["", "  doors", f"  {heading}", ""]


def test_a_code_of_two_actions_is_not_said_to_be_mostly_one(run: Path) -> None:
    tree = measured()
    tree["code_action"]["counts"] = [[51, 49, 0], [90, 10, 0], [0, 0, 0], [0, 0, 200]]
    write_json(run / "evaluate.json", tree)
    write_report(run)
    html = (run / "report.html").read_text()
    captions = [
        Page(each).text.split() for each in re.findall(r"<figcaption>(.*?)</figcaption>", html, re.DOTALL)
    ]
    said = [" ".join(words) for words in captions if words[0] == "Code"]
    assert said == [
        "Code 0 · 25 % of allnoop 51 %, left 49 %",
        "Code 1 · 25 % of allmostly noop 90 %",
        "Code 2 · 0 % of all",
        "Code 3 · 50 % of allmostly right 100 %",
    ]


def test_the_page_of_a_large_alphabet_shows_its_commonest_codes(run: Path) -> None:
    write_json(run / "evaluate.json", measured())
    write_report(run)
    usual = (run / "report.html").stat().st_size
    code = np.concatenate([np.arange(60_000, 60_100), np.repeat([0, 3], 50)])
    tree = measured() | {"code_action": to_tree(agreement(code, code % 3, 2**16, ("noop", "left", "right")))}
    write_json(run / "evaluate.json", tree)
    write_report(run)
    html = (run / "report.html").read_text()
    assert (
        "The 64 commonest codes; 38 more, with 19\N{NO-BREAK SPACE}% of the transitions, are left out."
        in html
    )
    assert len(html) < usual + 100_000
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html, re.DOTALL)
    said = [" ".join(Page(each).text.split()) for each in captions]
    assert "Code 0 · 25 % of allmostly noop 100 %" in said
    assert "Code 2" in said, "of one that is not listed nothing is said"


def test_a_rival_that_does_better_is_named_in_the_verdict() -> None:
    assert "40\N{NO-BREAK SPACE}% for an inverse model" in judge(measured()).checks[4].evidence


@pytest.mark.parametrize(
    "absent",
    [
        ("policy", "policy_gain"),
        ("probe", "probe_gain", "probe_about", "code_action", "policy", "policy_gain"),
        ("rollout", "control", "code_action"),
        tuple(measured()),
    ],
)
def test_sections_without_figures_are_left_out(run: Path, absent: tuple[str, ...]) -> None:
    write_json(run / "evaluate.json", {name: part for name, part in measured().items() if name not in absent})
    tree = write_report(run)
    text = Page((run / "report.html").read_text()).text
    assert not set(absent) - {"seconds", "hashes"} & tree.keys()
    assert ("Does a policy come out" in text) is ("policy" not in absent)
    assert ("Do the codes know the true action" in text) is ("probe" not in absent)
    assert ("Does the world obey" in text) is ("rollout" not in absent)
    assert ("Does the world follow" in text) is ("drive" not in absent)


def test_a_run_without_pictures_or_measurements_still_has_a_report(run: Path) -> None:
    (run / "evaluate.json").unlink()
    (run / "panels" / "gallery.json").unlink()
    tree = write_report(run)
    assert tree["verdict"]["answer"] == "Not measured"
    assert "What was trained" in Page((run / "report.html").read_text()).text


def test_a_robot_has_r2_by_group(run: Path) -> None:
    tree = measured()
    for name in ("policy", "policy_gain", "rollout", "control", "code_action"):
        del tree[name]
    arms = {"code": 0.2, "mean": -0.01, "random_lam": 0.1, "hold_last": 0.9, "supervised": -3.0}
    tree["probe"] = {arm: interval(mean) for arm, mean in arms.items()}
    tree["probe_groups"] = {
        arm: {"left arm": interval(mean), "right hand": interval(mean)} for arm, mean in arms.items()
    }
    tree["probe_gain"] = {"code_over_mean": interval(0.21), "code_over_random_lam": interval(0.1)}
    tree["probe_about"]["kind"] = "r2"
    write_json(run / "evaluate.json", tree)
    write_report(run)
    text = Page((run / "report.html").read_text()).text
    assert "right hand" in text
    assert "\N{MINUS SIGN}3.00" in text
    assert "So far, yes." in text


def test_figures_of_other_weights_are_refused(run: Path) -> None:
    write_json(run / "evaluate.json", measured() | {"hashes": {"lam": "0" * 64}})
    with pytest.raises(UserError, match="rests on another lam"):
        write_report(run)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such run folder"):
        write_report(tmp_path / "missing")
    with pytest.raises(UserError, match="no finished stage"):
        write_report(tmp_path)


def test_a_line_that_a_crash_cut_off_is_no_reason_to_have_no_report(run: Path) -> None:
    path = run / "lam" / "metrics.jsonl"
    before = read_curves(run)
    with path.open("a") as file:
        file.write('{"step": 50, "split": "tra')
    assert read_curves(run) == before
    write_report(run)


@pytest.mark.parametrize("line", ["{", "[1]", '{"split": "train"}', "null"])
def test_a_damaged_line_among_whole_ones_is_named(run: Path, line: str) -> None:
    path = run / "lam" / "metrics.jsonl"
    first, *rest = path.read_text().splitlines(keepends=True)
    path.write_text("".join([first, line + "\n", *rest]))
    with pytest.raises(UserError, match=r"metrics\.jsonl: line 2 is damaged"):
        write_report(run)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("panels/gallery.json", "not a list of pictures, no valid JSON"),
        ("evaluate.json", "not an object of measurements, no valid JSON"),
    ],
)
def test_a_damaged_file_of_the_run_is_named(run: Path, name: str, words: str) -> None:
    (run / name).write_bytes((run / name).read_bytes()[:40])
    with pytest.raises(UserError, match=words) as caught:
        write_report(run)
    assert str(run / name) in str(caught.value)
    assert "evaluate the run again" in str(caught.value)


def test_a_lost_picture_is_named(run: Path) -> None:
    (run / "panels" / "codes.webp").unlink()
    with pytest.raises(UserError, match=r"codes\.webp: missing, but gallery\.json lists it"):
        write_report(run)


# --- verdict ---------------------------------------------------------------------------------------------


def changed(**changes: Any) -> dict[str, Any]:
    """`measured()` with single figures changed: lam__codes_used=1."""
    tree = copy.deepcopy(measured())
    for path, value in changes.items():
        *keys, last = path.split("__")
        place = tree
        for key in keys:
            place = place[key]
        place[last] = value
    return tree


def outcomes(tree: dict[str, Any]) -> list[str]:
    return [check.outcome for check in judge(tree).checks]


def test_all_checks_hold_in_a_good_run() -> None:
    verdict = judge(measured())
    assert verdict.answer == "Yes"
    assert [check.outcome for check in verdict.checks] == ["holds"] * 5
    assert not any(check.cause for check in verdict.checks)


@pytest.mark.parametrize(
    ("changes", "place", "outcome", "answer", "cause"),
    [
        ({"lam__codes_used": 2}, 0, "fails", "Not yet", "collapsed"),
        ({"lam__codes_used": 3}, 0, "holds", "Yes", ""),
        ({"control__delta_psnr_db": interval(0.01)}, 1, "unclear", "In part", "dynamics model does not follow"),
        (
            {"control__delta_psnr_db": interval(-0.01), "lam__code_gain_db": 0.05},
            1, "fails", "Not yet", "hardly reads its codes",
        ),
        ({"rollout__gain_db__4": interval(-1.0)}, 2, "fails", "In part", "leaves 10.0 dB of room"),
        (
            {"rollout__gain_db__4": interval(-1.0), "rollout__ceiling_psnr_db__4": 20.0},
            2, "fails", "In part", "tokenizer is the limit",
        ),
        ({"probe_gain__code_over_random_lam": interval(-0.1)}, 3, "fails", "In part", "describe motion"),
        ({"probe_gain__code_over_majority": interval(0.01)}, 3, "unclear", "In part", "describe motion"),
        ({"policy_gain__latent_over_bc": interval(-0.1)}, 4, "fails", "In part", "too seldom the right one"),
        (
            {"policy_gain__latent_over_bc": interval(-0.1), "policy__oracle": interval(0.5)},
            4, "fails", "In part", "cloning itself is the limit",
        ),
    ],
)  # fmt: skip
def test_a_check_that_does_not_hold_says_why(
    changes: dict[str, Any], place: int, outcome: str, answer: str, cause: str
) -> None:
    verdict = judge(changed(**changes))
    assert verdict.checks[place].outcome == outcome
    assert verdict.answer == answer
    assert cause in verdict.checks[place].cause
    assert bool(verdict.checks[place].cause) is bool(cause)


def test_an_embedding_that_knows_more_than_its_code_is_named_as_the_reason() -> None:
    gain = {
        "code_over_majority": interval(0.0), "code_over_random_lam": interval(0.0),
        "embedding_over_majority": interval(0.4), "embedding_over_random_lam_embedding": interval(0.3),
    }  # fmt: skip
    assert "embedding before the bottleneck" in judge(changed(probe_gain=gain)).checks[3].cause


def test_one_episode_can_hold_nothing() -> None:
    lone = {"mean": 3.0, "low": None, "high": None, "num": 1}
    assert outcomes(changed(control__delta_psnr_db=lone))[1] == "unclear"


# --- pictures --------------------------------------------------------------------------------------------


def test_films_of_all_codes_begin_with_the_same_frame_of_a_moving_clip(
    world: World, clips: list[Clip]
) -> None:
    gallery = paint(world.tokenizer, world.lam, world, clips, rate_hz=10.0, num_frames=4, num_examples=3)
    assert list(gallery.films) == [0, 1, 2, 3]
    starts = {film[0].tobytes() for film in gallery.films.values()}
    assert len(starts) == 1
    assert starts < {to_pixels(clips[0].frames[row, 0]).tobytes() for row in (0, 2)}
    assert all(film.shape == (5, 16, 16, 3) for film in gallery.films.values())
    assert len(gallery.examples) == 3
    assert np.array_equal(gallery.examples[0]["recorded"][0], gallery.examples[0]["inferred"][0])
    assert gallery.strip["recorded"].shape == gallery.strip["lam"].shape


def test_each_code_meets_the_same_noise(world: World, clips: list[Clip]) -> None:
    gallery = paint(world.tokenizer, world.lam, world, clips, rate_hz=10.0, num_frames=3, seed=4)
    start = torch.from_numpy(gallery.films[2][:1]).permute(0, 3, 1, 2)[None] / 255
    alone = world.rollout(start, torch.full((1, 3), 2), seed=4)
    # The start went through uint8, so tokens near a border may differ; the first frame does not.
    assert np.abs(to_pixels(alone[0, 0]).astype(int) - gallery.films[2][1]).max() <= 1


def test_without_a_world_films_come_from_the_latent_action_model(world: World, clips: list[Clip]) -> None:
    gallery = paint(world.tokenizer, world.lam, None, clips, rate_hz=10.0, num_frames=3, prompt_frames=2)
    assert gallery.foretold_by == "lam"
    assert gallery.examples == []
    start = clips[0].frames[
        [row for row in (0, 2) if np.array_equal(to_pixels(clips[0].frames[row, 1]), gallery.films[0][0])]
    ]
    vectors = torch.cat([world.lam.encode(start[:, :2]).vector, world.lam.code_vectors()[None, 3:4]], dim=1)
    foretold = world.lam.decode(start[:, :2], vectors)[:, -1]
    assert np.array_equal(to_pixels(foretold)[0], gallery.films[3][1])


def test_every_picture_that_is_listed_is_there(run: Path) -> None:
    listed = read_gallery(run / "panels")
    assert listed is not None
    with Image.open(run / "panels" / listed["films"]["1"]["file"]) as sheet:
        assert sheet.size == (16 * listed["films"]["1"]["frames"], 16)
    with Image.open(run / "panels" / listed["together"]) as together:
        assert len(list(ImageSequence.Iterator(together))) == listed["films"]["1"]["frames"]


def test_pictures_keep_their_pixels() -> None:
    film = np.random.default_rng(0).integers(0, 256, (3, 8, 10, 3), dtype=np.uint8)
    sheet = np.asarray(Image.open(io.BytesIO(sheet_webp(film))).convert("RGB"))
    assert np.array_equal(sheet[:, 10:20], film[1])
    strip = np.asarray(Image.open(io.BytesIO(strip_png(film))))
    assert np.array_equal(strip[:, 12:22, :3], film[1])
    assert not strip[:, 10:12, 3].any()  # a transparent gap
    tiled = tile(np.stack([film, film, film]), columns=2)
    assert tiled.shape == (3, 18, 22, 3)
    assert np.array_equal(tiled[:, 10:18, :10], film)
    assert data_uri(animation_webp(film, 10.0), ".webp").startswith("data:image/webp;base64,")


# --- charts ----------------------------------------------------------------------------------------------


def test_a_chart_is_well_formed_and_stays_inside_its_frame() -> None:
    points = [(float(step), 1e-3 * step) for step in range(5000)]
    svg = line_chart([Line("a & b", points, 0, [(0.0, -1.0, 1.0), (4999.0, 4.0, 6.0)])], "step", "x < y")
    numbers = [float(each) for each in re.findall(r"[ML ]([\d.]+ [\d.]+)", svg) for each in each.split()]
    assert min(numbers) >= 0
    assert max(numbers) <= 360
    assert "&lt;" in svg
    assert "x < y" not in svg


def test_the_last_number_of_an_axis_is_not_cut_off() -> None:
    svg = line_chart([Line("short", [(0, 1.0), (1500, 2.0)], 0)], "step", "short")
    assert re.search(r'text-anchor="end">1500<', svg)
    assert re.search(r'text-anchor="middle">500<', svg)


def test_long_curves_are_thinned_to_their_averages_and_keep_their_end() -> None:
    points = [(float(step), float(step % 2)) for step in range(1000)]
    found = thin(points)
    assert len(found) <= 161
    assert found[-1] == points[-1]
    assert abs(found[0][1] - 0.5) < 0.1


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.013, 0.05), (-3, 12000), (5, 5)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    found = ticks(float(low), float(high), 4)
    assert 1 <= len(found) <= 5
    assert all(low - 1e-9 <= each <= high + 1e-9 for each in found)


def test_a_constant_curve_can_be_drawn() -> None:
    assert "nan" not in line_chart([Line("flat", [(1.0, 2.0), (2.0, 2.0)], 0)], "step", "flat")
