"""The command line as a user meets it: the README's own commands, in their order, on the toy world."""

import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from genie_lite.config import dump
from genie_lite.data.labels import read_labels
from genie_lite.files import write_json
from genie_lite.recipe import load_recipe
from tests.command_line import Outcome, call, start, start_alone
from tests.lerobot_fixture import write_lerobot
from tests.unit.test_readme import DOCUMENTS, GUIDE, ROOT, commands_of
from tests.videos import moving_square, wandering_square, write

# Run by other tests: what needs the engine or footage, and what is served until somebody stops it.
ENGINES = (
    "make ",
    "genie-lite play ",
    *(f"genie-lite run recipes/{name}" for name in ("video", "g1", "coinrun")),
)
RUN = Path("runs") / "toy-demo"
# The commands that import most, which are started in a process that has imported nothing before.
ALONE = ("genie-lite run ", "genie-lite rollout runs/", "genie-lite ingest FOLDER ")
# A toy that is trained a little: what is looked at here does not depend on how well it has learnt.
SHORTER = {
    "tokenizer.train": {"steps": 40, "val_every": 20, "checkpoint_every": 20},
    "lam.train": {"steps": 40, "val_every": 20, "checkpoint_every": 20},
    "dynamics.train": {"steps": 40, "val_every": 20, "checkpoint_every": 20},
    "adapt.mapping": {"steps": 50},
    "adapt.idm": {"steps": 10},
    "adapt.policy": {"steps": 10},
    "evaluate": {"levels": [2000, 2010]},
}


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the repository's recipes in it, as after a clone, the toy's with fewer steps."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    toy = folder / "recipes" / "toy" / "demo.yaml"
    changes = [f"{part}.{key}={value}" for part, values in SHORTER.items() for key, value in values.items()]
    toy.write_text(dump(load_recipe(toy, changes)))
    return folder


@pytest.fixture(scope="session")
def footage(place: Path) -> Path:
    """What the README's reader is told to have: a folder, a pattern's files, a list, a tar and a robot's dataset."""
    for name in ("FOLDER/a", "more/deep/b", "listed", "packed"):
        write(place / f"{name}.mp4", wandering_square(name, 40, 64))
    (place / "clips.txt").write_text("# a list\nlisted.mp4\n")
    with tarfile.open(place / "archive.tar", "w") as tar:
        tar.add(place / "packed.mp4", "packed.mp4")
    write_lerobot(place / "ROBOT", num_episodes=2, num_frames=60)
    return place


@pytest.fixture(scope="session")
def readme(footage: Path) -> dict[str, Outcome]:
    """What each command of the README left, run one after another; those of other tests left out."""
    place = footage
    lines = [line for line in commands_of(ROOT / "README.md") if not line.startswith(ENGINES)]
    return {
        line: (start_alone if line.startswith(ALONE) else start)(*shlex.split(line)[1:], folder=place)
        for line in lines
    }


def test_the_python_of_the_readme_works(readme: dict[str, Outcome], place: Path) -> None:
    """As a program of its own, which needs neither the trainer nor a video decoder."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        checks = (
            "import sys\nassert frame.shape == (1, 3, 32, 32) and 0 <= frame.min() <= frame.max() <= 1\n"
            "assert not {'lightning', 'av', 'decord', 'webdataset'} & sys.modules.keys()\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", block + checks], cwd=place, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def guide(readme: dict[str, Outcome], place: Path) -> dict[str, Outcome]:
    """What each command of the guide to latent actions left, on the run and the shards of the README."""
    (place / "notebooks").symlink_to(ROOT / "notebooks")
    outcomes = {}
    for line in commands_of(GUIDE):
        program, *rest = shlex.split(line)
        if program == "genie-lite":
            outcomes[line] = start(*rest, folder=place)
        else:
            command = [sys.executable, *rest]
            done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
            outcomes[line] = Outcome(done.returncode, done.stdout, done.stderr)
    return outcomes


def test_every_command_of_the_guide_works(guide: dict[str, Outcome]) -> None:
    assert {line: outcome.err for line, outcome in guide.items() if outcome.code} == {}


def test_the_python_of_the_guide_works(guide: dict[str, Outcome], place: Path) -> None:
    """Its blocks follow one another, as on a robot: without a trainer and a video decoder."""
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    checks = "import sys\nassert not {'lightning', 'av', 'decord', 'webdataset'} & sys.modules.keys()\n"
    command = [sys.executable, "-c", "\n".join([*blocks, checks])]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    card = (place / "toy-lam" / "README.md").read_text()
    verdict = json.loads((place / RUN / "inspect" / "inspect.json").read_text())["verdict"]
    assert verdict["answer"] in card


def test_a_policy_is_cloned_from_the_parquet_alone(guide: dict[str, Outcome]) -> None:
    """By a loop that knows nothing of us."""
    source = (ROOT / "notebooks" / "clone_latent_actions.py").read_text()
    assert not re.search(r"^(import|from) genie_lite", source, flags=re.MULTILINE)
    (outcome,) = (outcome for line, outcome in guide.items() if "clone_latent_actions" in line)
    assert re.search(r"\d+ held-out transitions: policy \d+%", outcome.out)


def outcome_of(readme: dict[str, Outcome], beginning: str) -> Outcome:
    return next(outcome for line, outcome in readme.items() if line.startswith(f"genie-lite {beginning}"))


def test_every_command_of_the_readme_works(readme: dict[str, Outcome]) -> None:
    assert {line: outcome.err for line, outcome in readme.items() if outcome.code} == {}


def test_a_recording_keeps_actions_apart_from_the_video(readme: dict[str, Outcome], place: Path) -> None:
    videos = sorted((place / "videos").glob("*.mp4"))
    labels = read_labels(place / "videos" / "labels.parquet")
    assert len(videos) == 20
    assert set(labels.sources) == {video.name for video in videos}
    with av.open(str(videos[0])) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        frames = sum(1 for _ in container.decode(video=0))
    assert (labels.sources == videos[0].name).sum() == frames - 1


def test_ingest_gives_every_source_a_row(readme: dict[str, Outcome], place: Path) -> None:
    rows = [json.loads(line) for line in (place / "shards" / "manifest.jsonl").read_text().splitlines()]
    index = json.loads((place / "shards" / "shards.json").read_text())
    assert len(rows) == 20
    assert {row["status"] for row in rows} <= {"ingested", "filtered", "quarantined"}
    for shard in index["shards"]:
        content = (place / "shards" / shard["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == shard["sha256"]


def test_the_report_holds_what_it_promises(readme: dict[str, Outcome], place: Path) -> None:
    report = json.loads((place / RUN / "report.json").read_text())
    stages = {"record", "ingest", "tokenizer", "lam", "dynamics", "extract", "adapt", "evaluate"}
    assert report["seconds"].keys() >= stages
    assert report["tokenizer"]["psnr_db"] > 10
    assert 1 <= report["lam"]["codes_used"] <= 8
    assert 1 <= report["lam"]["perplexity"] <= 8
    for arm in ("code", "embedding", "majority", "random_lam", "supervised"):
        assert report["probe"][arm].keys() >= {"mean", "low", "high"}
    for curve in ("psnr_db", "copy_last_psnr_db"):
        assert report["rollout"][curve].keys() >= {"1", "4"}
    assert report["control"]["delta_psnr_db"].keys() >= {"mean", "low", "high"}
    assert report["policy"].keys() >= {"latent", "random", "blind", "bc", "idm", "oracle"}
    for arm in report["policy"].values():
        assert arm.keys() >= {"mean", "low", "high", "episodes"}
        assert 0 <= arm["low"] <= arm["mean"] <= arm["high"] <= 1
    assert report["hashes"].keys() >= {"tokenizer", "lam", "dynamics", "shards", "latents", "labels", "adapt"}
    assert sum(report["sources"].values()) == 50


def test_the_report_is_one_page_that_needs_nothing_else(readme: dict[str, Outcome], place: Path) -> None:
    page = (place / RUN / "report.html").read_text()
    assert "data:image/webp;base64," in page
    assert not [part for part in ("<script src", "<link ", 'src="http', "url(http") if part in page]


def test_what_is_finished_is_found_and_skipped(readme: dict[str, Outcome], place: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (place / RUN).rglob("model.safetensors")}
    again = outcome_of(readme, "train recipes/toy/demo.yaml --stage lam")
    assert "lam: finished before" in again.err
    assert outcome_of(readme, "evaluate").err.count("evaluate: finished before") == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(before) == 3


def test_evaluate_prints_one_json_object(readme: dict[str, Outcome]) -> None:
    tree = json.loads(outcome_of(readme, "evaluate").out)
    assert tree["lam"]["num_codes"] == 8


def test_extract_describes_every_transition(readme: dict[str, Outcome], place: Path) -> None:
    table = pq.read_table(sorted((place / "latents").glob("*.parquet")))
    assert {"source", "frame_index", "timestamp_s", "code", "embedding", "valid"} <= set(table.column_names)
    manifest = json.loads((place / "latents" / "manifest.json").read_text())
    valid = table["valid"].to_numpy()
    code = table["code"].to_numpy()
    assert manifest["counts"]["transitions"] == valid.sum() > 0
    assert set(code[valid]) <= set(range(8))
    assert (code[~valid] == -1).all()


def test_adapt_stays_within_its_budget(readme: dict[str, Outcome], place: Path) -> None:
    summary = json.loads((place / "policy" / "adapt.json").read_text())
    assert summary["labels"]["transitions"] == 100
    assert (place / "policy" / "policy.safetensors").is_file()


def test_a_rollout_is_what_it_says(readme: dict[str, Outcome], place: Path) -> None:
    told = json.loads(outcome_of(readme, "rollout").out)
    assert told["frames_per_s"] > 0
    with av.open(str(place / "rollout.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 16


def rollout(place: Path, *arguments: str, seed: int = 0) -> dict[str, Any]:
    """The README's rollout, with other arguments added."""
    ride = ["--start", "videos", "--codes", "0,3,3,1", "--frames", "16", "--seed", str(seed)]
    return json.loads(
        start("rollout", RUN, *ride, *arguments, "--out", "again.mp4", "--json", folder=place).out
    )


@pytest.mark.parametrize("arguments", [[], ["--batch", "3"], ["--no-cache"], ["--threads", "2"]])
def test_a_rollout_is_the_same_however_it_is_computed(
    readme: dict[str, Outcome], place: Path, arguments: list[str]
) -> None:
    told, again = json.loads(outcome_of(readme, "rollout").out), rollout(place, *arguments)
    for name in ("sha256", "tokens_sha256"):
        assert again[name] == told[name]


def test_a_rollout_follows_its_seed_and_its_passes(readme: dict[str, Outcome], place: Path) -> None:
    told = json.loads(outcome_of(readme, "rollout").out)["sha256"]
    assert rollout(place, seed=1)["sha256"] != told
    assert rollout(place, "--k", "1")["sha256"] != told


def test_a_replay_verifies_also_where_its_run_has_moved(readme: dict[str, Outcome], place: Path) -> None:
    told = json.loads(outcome_of(readme, "rollout").out)
    assert "verified: True" in outcome_of(readme, "replay").out
    moved = place / "moved"
    shutil.copytree(place / RUN, moved)
    found = start("replay", "rollout.replay", "--run", "moved", "--out", "replay.mp4", "--json", folder=place)
    assert json.loads(found.out)["sha256"] == told["sha256"]
    assert (place / "replay.mp4").read_bytes() == (place / "rollout.mp4").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", RUN / "lam"], ["the folder of one stage"]),
        (["report", RUN / "lam"], ["lam"]),
        (["extract", RUN, "nowhere", "--out", "x"], ["nowhere", "no such file or folder"]),
        (["adapt", RUN, "--labels", "shards", "--out", "x"], ["shards", "labels.parquet"]),
        (
            ["adapt", RUN, "--labels", RUN / "videos" / "train", "--out", RUN / "adapt"],
            ["--out", "give another folder"],
        ),
        (["run", "recipes/toy/demo.yaml", "lam.train.steps=7"], ["lam", "steps", "choose another run name"]),
        (
            ["train", "recipes/toy/demo.yaml", "--stage", "lam", "tokenizer.model.width=32"],
            ["tokenizer", "model.width=64, now it is 32"],
        ),
        (
            ["train", "recipes/toy/demo.yaml", "--stage", "dynamics", "name=other"],
            ["tokenizer", "artifact.json"],
        ),
    ],
)
def test_mistakes_with_a_run_are_told_in_a_line(
    readme: dict[str, Outcome],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str | Path],
    words: list[str],
) -> None:
    monkeypatch.chdir(place)
    outcome = call(*arguments)
    assert outcome.code == 2, outcome.err
    assert "Traceback" not in outcome.err
    assert [word for word in words if word not in outcome.last_line] == []


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [("--codes", "0,8", ["expected integers from 0 to 7"]), ("--start", "short.mp4", ["too short"])],
)
def test_a_rollout_refuses_what_it_cannot_do(
    readme: dict[str, Outcome],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    value: str,
    words: list[str],
) -> None:
    monkeypatch.chdir(place)
    write(place / "short.mp4", moving_square(1))
    options = {"--start": "videos", "--codes": "0", "--frames": "2", "--out": "x.mp4"} | {option: value}
    outcome = call("rollout", RUN, *(part for pair in options.items() for part in pair))
    assert outcome.code == 2, outcome.err
    assert [word for word in words if word not in outcome.last_line] == []


def tiny(stage: str, **more: object) -> list[str]:
    """Changes that make a stage of any recipe a matter of seconds."""
    changes = {
        "steps": 4,
        "batch": 4,
        "clip_frames": 8,
        "warmup_steps": 1,
        "precision": "32-true",
        "val_clips": 2,
    }
    train = [f"{stage}.train.{key}={value}" for key, value in (changes | more).items()]
    size = [f"{stage}.model.{key}={value}" for key, value in {"width": 32, "depth": 1, "heads": 2}.items()]
    return [*train, *size, *([f"{stage}.model.frame_hw=[32, 32]"] if stage != "dynamics" else [])]


TINY = [
    *(change for stage in ("tokenizer", "lam", "dynamics") for change in tiny(stage)),
    "data.ingest.size_px=32",
    "data.ingest.min_frames=8",
    "evaluate.clips=2",
    "evaluate.horizon=4",
    "wandb=off",
]


# Commands that documents and headers of recipes show beside the README's, and where this file runs them.
VIDEO = "genie-lite run recipes/video/small.yaml data.source=FOLDER"
G1 = "genie-lite run recipes/g1/run.yaml data.source=data/g1_bottle/dataset"
GAME = [
    *("record.game=toy", "record.episodes=6", "record.levels=[0, 6]", "record.test_episodes=3"),
    *("record.test_levels=[100, 103]", "record.max_frames=24", "evaluate.levels=[200, 203]"),
    *("evaluate.num_envs=3", "data.ingest.cuts=false"),
]
TEACH = [
    *("adapt.idm.steps=4", "adapt.idm.precision=32-true", "adapt.mapping.steps=20"),
    *("adapt.policy.steps=4", "adapt.policy.precision=32-true"),
]


def documented() -> list[str]:
    """Every `genie-lite` line of the documents and of the recipes' headers, the README's steps left out."""
    headers = [
        match[1]
        for path in sorted((ROOT / "recipes").rglob("*.yaml"))
        for match in re.finditer(r"^#\s.*?(genie-lite .+)$", path.read_text(), flags=re.MULTILINE)
    ]
    shown = [line for path in DOCUMENTS for line in commands_of(path)]
    own = [line for line in commands_of(ROOT / "README.md") if not line.startswith(ENGINES)]
    return sorted(
        {line for line in [*headers, *shown] if line.startswith("genie-lite ")} - {*own, *commands_of(GUIDE)}
    )


def small(line: str) -> list[str]:
    """The arguments of a documented command, and what makes it a matter of seconds on what tests have."""
    _, command, *rest = shlex.split(line)
    if command == "record":
        asked = rest[rest.index("--levels") + 1].partition(":")[0]
        changes = {"--episodes": "3", "--levels": f"{asked}:{int(asked) + 3}"}
        kept = [changes.get(before, each) for before, each in pairwise(rest)]
        return [command, "toy", *kept]
    given = [each for each in rest if not each.startswith("data.source=")]
    if "data.source=" not in line:
        return [command, *given, *TINY, *GAME, *TEACH]
    if "recipes/g1/" not in line:
        return [command, *given, "data.source=mine", *TINY]
    return [
        *(command, *given, "data.source=robot", *TINY, *TEACH),
        *("lam.model.code.levels=[4, 4]", "adapt.labels_episodes=2"),
    ]


def test_an_exported_world_stands_alone(readme: dict[str, Outcome], place: Path, tmp_path: Path) -> None:
    """It plays without the run, from a folder that was moved; its weights are the run's, rounded."""
    shutil.copytree(place / "toy-world", tmp_path / "moved")
    arguments = ("--codes", "0,3", "--frames", "8", "--out", tmp_path / "again.mp4")
    assert start("rollout", tmp_path / "moved", *arguments, folder=tmp_path).code == 0
    assert (tmp_path / "again.mp4").read_bytes() == (place / "toy.mp4").read_bytes()
    for stage in ("tokenizer", "lam", "dynamics"):
        whole, half = (
            load_file(folder / stage / "model.safetensors") for folder in (place / RUN, place / "toy-world")
        )
        assert whole.keys() == half.keys()
        assert any(half[name].dtype == torch.float16 for name in half)
        for name, tensor in whole.items():
            assert torch.allclose(half[name].to(tensor.dtype), tensor, rtol=1e-3, atol=1e-4), name
    text = (
        "".join(path.read_text() for path in (place / "toy-world").rglob("*.yaml"))
        + (place / "toy-world" / "CARD.md").read_text()
    )
    assert str(place) not in text, "a path of this machine"


@pytest.fixture(scope="session")
def own_tokens(readme: dict[str, Outcome], place: Path) -> str:
    """The tokens of the toy run's own shards."""
    tokenized = start("tokenize", RUN, RUN / "shards", "--out", "own-tokens", folder=place)
    assert tokenized.code == 0, tokenized.err
    return "own-tokens"


def test_ready_tokens_train_the_same_dynamics_model(own_tokens: str, place: Path) -> None:
    folder = place / "runs" / "from-tokens"
    shutil.copytree(place / RUN, folder, ignore=shutil.ignore_patterns("dynamics", "tokens", "videos"))
    (folder / "videos").symlink_to(place / RUN / "videos")
    train = (
        "train",
        "recipes/toy/demo.yaml",
        "--stage",
        "dynamics",
        "name=from-tokens",
        f"data.tokens={own_tokens}",
    )
    outcome = start(*train, folder=place)
    assert outcome.code == 0, outcome.err
    assert not (folder / "tokens").exists(), "no video was decoded"
    weights = [run / "dynamics" / "model.safetensors" for run in (folder, place / RUN)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_tokens_of_another_tokenizer_are_refused_with_the_command(own_tokens: str, place: Path) -> None:
    folder = place / "runs" / "other-tokenizer"
    shutil.copytree(
        place / RUN, folder, ignore=shutil.ignore_patterns("tokenizer", "lam", "dynamics", "tokens")
    )
    few = ("name=other-tokenizer", "seed=5", *(f"{stage}.train.steps=4" for stage in ("tokenizer", "lam")))
    warm = tuple(f"{stage}.train.warmup_steps=1" for stage in ("tokenizer", "lam"))
    for stage in ("tokenizer", "lam"):
        line = ("train", "recipes/toy/demo.yaml", "--stage", stage, *few, *warm)
        assert (outcome := start(*line, folder=place)).code == 0, outcome.err
    train = (
        "train",
        "recipes/toy/demo.yaml",
        "--stage",
        "dynamics",
        *few,
        *warm,
        f"data.tokens={own_tokens}",
    )
    outcome = start(*train, folder=place)
    assert outcome.code == 2, outcome.err
    assert "stale" in outcome.last_line
    assert "genie-lite tokenize" in outcome.last_line


def test_two_corpora_are_trained_on_together(readme: dict[str, Outcome], place: Path) -> None:
    both = ("record=null", "data.source=shards", "data.mix=[{source: runs/toy-demo/shards, weight: 0.5}]")
    few = ("tokenizer.train.steps=4", "tokenizer.train.warmup_steps=1")
    line = ("train", "recipes/toy/demo.yaml", "--stage", "tokenizer", "name=mixed", *both, *few)
    outcome = start(*line, folder=place)
    assert outcome.code == 0, outcome.err
    kept = (place / "runs" / "mixed" / "recipe.yaml").read_text()
    assert "weight: 0.5" in kept
    heavier = start(*line[:-3], "data.mix=[{source: runs/toy-demo/shards, weight: 2}]", *few, folder=place)
    assert heavier.code == 2, "another mixture is another data set"


def test_a_damaged_shard_is_left_out_or_stops_the_training(readme: dict[str, Outcome], place: Path) -> None:
    shutil.copytree(place / RUN / "shards", place / "bad-shards")
    shard = sorted((place / "bad-shards").glob("train-*.tar"))[0]
    shard.write_bytes(shard.read_bytes()[:-2000])
    few = (
        "tokenizer.train.steps=4",
        "tokenizer.train.warmup_steps=1",
        "record=null",
        "data.source=bad-shards",
    )
    line = ("train", "recipes/toy/demo.yaml", "--stage", "tokenizer", *few)
    outcome = start(*line, "name=less", folder=place)
    assert outcome.code == 0, outcome.err
    assert shard.name in outcome.err
    stopped = start(*line, "name=strict", "data.strict=true", folder=place)
    assert stopped.code == 2
    assert shard.name in stopped.last_line
    verified = start("data", "verify", "bad-shards", folder=place)
    assert verified.code == 2
    assert shard.name in verified.last_line


def test_a_run_is_not_exported_over_itself(readme: dict[str, Outcome], place: Path) -> None:
    outcome = start("export", RUN, "--out", RUN, folder=place)
    assert outcome.code == 2
    assert "is the run itself" in outcome.last_line


def test_all_kinds_of_sources_become_one_corpus(readme: dict[str, Outcome], place: Path) -> None:
    (line,) = (line for line in readme if line.startswith("genie-lite ingest FOLDER"))
    assert readme[line].code == 0, readme[line].err
    rows = [json.loads(row) for row in (place / "corpus" / "manifest.jsonl").read_text().splitlines()]
    names = {row["source"]: row["status"] for row in rows}
    assert {"a.mp4", "deep/b.mp4", "listed.mp4", "archive.tar/packed.mp4"} <= names.keys()
    assert len(names) == 6
    assert set(read_labels(place / "corpus" / "labels.parquet").episodes) == {
        name for name in names if name.startswith("videos/")
    }


@pytest.fixture(scope="session")
def inputs(place: Path) -> Path:
    """Somebody's folder of videos, one of them broken, and a robot's dataset."""
    videos = [
        write(place / "mine" / "deep" / f"{name}.mp4", wandering_square(name, 30, 32))
        for name in ("blue", "green", "grey")
    ]
    whole = videos[0].read_bytes()
    (place / "mine" / "broken.mp4").write_bytes(whole[: len(whole) // 2])
    write_lerobot(place / "robot", num_episodes=6, num_frames=24)
    return place


SERVED = {line for line in documented() if line.startswith(("genie-lite play ", "genie-lite replay game"))}


@pytest.mark.parametrize("line", sorted(set(documented()) - {VIDEO, G1} - SERVED))
def test_every_documented_command_works_at_a_tiny_size(inputs: Path, line: str) -> None:
    outcome = start(*small(line), folder=inputs)
    assert outcome.code == 0, outcome.err


def test_a_folder_of_videos_without_labels_becomes_a_report(inputs: Path) -> None:
    """The recipe for anybody's folder, with one broken file in it."""
    assert VIDEO in documented()
    outcome = start(*small(VIDEO), "--json", folder=inputs)
    assert outcome.code == 0, outcome.err
    report = json.loads((inputs / "runs" / "video-small" / "report.json").read_text())
    assert not {"probe", "policy"} & report.keys()
    assert "No labels were given" in report["about"]["lines"]["left out"]
    assert report["sources"] == {"ingested": 3, "filtered": 0, "quarantined": 1}
    assert report["about"]["lines"]["sources"] == "3 ingested, 0 filtered, 1 quarantined"
    assert json.loads(outcome.out)["answer"] == report["verdict"]["answer"]


def test_a_robot_with_a_few_labels_becomes_a_report(inputs: Path) -> None:
    """The robot's recipe on a tiny dataset of the same layout: R² per joint group, beside its rivals."""
    assert G1 in documented()
    outcome = start(*small(G1), folder=inputs)
    assert outcome.code == 0, outcome.err
    report = json.loads((inputs / "runs" / "g1" / "report.json").read_text())
    assert report["probe_about"]["kind"] == "r2"
    rivals = {"mean", "hold_last", "supervised_few", "supervised"}
    assert report["probe"].keys() >= {"code", "embedding", "adapted", *rivals}
    assert report["probe_groups"]["adapted"].keys() == {"left_arm", "right_arm", "left_hand", "right_hand"}
    assert "policy" not in report
    again = start("evaluate", inputs / "runs" / "g1", folder=inputs / "mine")
    assert "evaluate: finished before" in again.err, again.err


def test_policies_of_an_earlier_model_are_not_scored(readme: dict[str, Outcome], place: Path) -> None:
    folder = place / "runs" / "stale"
    shutil.copytree(place / RUN, folder)
    shutil.rmtree(folder / "lam")
    train = ["train", "recipes/toy/demo.yaml", "--stage", "lam", "name=stale", "lam.train.steps=4"]
    retrained = start(*train, "lam.train.warmup_steps=1", folder=place)
    assert retrained.code == 0, retrained.err
    outcome = start("evaluate", folder, folder=place)
    assert outcome.code == 2, outcome.err
    assert "adapt.json: was made with parents.lam=" in outcome.last_line
    assert "run genie-lite run to adapt again" in outcome.last_line


def test_a_repeated_evaluation_replaces_its_seconds(readme: dict[str, Outcome], place: Path) -> None:
    """The others' stay what they were; a damaged file of measurements is measured again."""
    folder = place / "runs" / "again"
    shutil.copytree(place / RUN, folder)
    before = json.loads((folder / "seconds.json").read_text())
    write_json(folder / "seconds.json", before | {"evaluate": 1e6})
    (folder / "evaluate.json").write_text("{")
    assert start("evaluate", folder, folder=place).code == 0
    after = json.loads((folder / "seconds.json").read_text())
    assert after["evaluate"] < 1e6
    assert after | {"evaluate": 0} == before | {"evaluate": 0}
    assert json.loads((folder / "evaluate.json").read_text())["seconds"] == after
