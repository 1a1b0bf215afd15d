"""The order of a run. Every stage found finished is skipped, a broken one goes on.

    record ─▶ ingest ─▶ tokenizer ─┬▶ dynamics ─▶ extract ─▶ adapt ─▶ evaluate ─▶ report
                      └▶ lam ──────┘

Stages meet through the run's folder alone (`folder.py` says what lies where); none of them knows another.
"""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from genie_lite import evaluation, steer
from genie_lite.adapt.adapt import ARMS, Arm, adapt_shards
from genie_lite.adapt.config import AdaptConfig
from genie_lite.artifact import is_finished, read_artifact
from genie_lite.config import dump, override, parse
from genie_lite.controls import action_controls
from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.distract.distractor import DistractConfig, Kind
from genie_lite.data.distract.shards import distract_shards
from genie_lite.data.ingest.ingest import ingest as ingest_videos
from genie_lite.data.ingest.workers import POOL, Share, Workers
from genie_lite.data.labels import Labels, fingerprint
from genie_lite.data.quality.training import train_quality
from genie_lite.data.report.report import write_data_report
from genie_lite.data.shards.index import INDEX_FILE
from genie_lite.data.shards.shards import ShardSet
from genie_lite.data.shards.transport import path_of
from genie_lite.data.shards.verify import verify as verify_shards
from genie_lite.data.sources import lerobot
from genie_lite.data.sources.find import find_sources, robots_among
from genie_lite.data.sources.robot_labels import keep_labels, robot_labels
from genie_lite.data.video.codec import write_mp4
from genie_lite.device import usual_device
from genie_lite.envs.record import RecordConfig
from genie_lite.envs.record import record as record_game
from genie_lite.errors import UserError
from genie_lite.evals.report import write_report
from genie_lite.export import STARTS_FOLDER
from genie_lite.export import export as export_models
from genie_lite.extraction import processes_for
from genie_lite.files import sha256_of, write_json
from genie_lite.folder import (
    LABELS_FILE,
    change_since_adapt,
    corpora_of,
    count_sources,
    frames_of,
    given_shards,
    has_labels,
    keep_recipe,
    labels_at,
    labels_in_training,
    labels_of,
    recipe_of,
    seconds_of,
    shards_of,
    sources_of,
    stage,
)
from genie_lite.latents.extract import extract as extract_latents
from genie_lite.models.lam import load_lam
from genie_lite.models.sampling import SamplingConfig
from genie_lite.models.tokenizer import load_tokenizer
from genie_lite.nn.quantize import expect_listable
from genie_lite.progress import bar, bars, say
from genie_lite.recipe import Recipe, load_recipe
from genie_lite.replay import read_replay, verify, weights_of, write_replay
from genie_lite.replay import record as record_replay
from genie_lite.train.config import LabelsConfig, StageConfig, StageName
from genie_lite.train.fit import check_labels, check_trained, fit, origin_of
from genie_lite.train.rank import is_main_process, leave_group, num_started
from genie_lite.train.tokens import tokenize as write_tokens

TRAINED: tuple[StageName, ...] = get_args(StageName)
LARGEST_GROUP = 64  # streams that a replay of anybody may ask to be computed together
WAIT_S = 1.0  # between two looks at whether the main process has made the data
NO_LABELS = "No labels were given: what the codes mean, and policies made from them, are left out."


def run(recipe: Recipe) -> dict[str, Any] | None:
    """Every stage of a recipe, to the report.

    Returns:
        What `report` does; None in a process beside the main one, which takes part in training only.

    Raises:
        UserError: no data, a broken input, or a run of this name that was made from another recipe.
    """
    expect_listable(recipe.lam.model.code)
    _prepare(recipe)
    for name in TRAINED:
        _train(recipe, name)
    if not leave_group():
        return None
    _extract_own(recipe)
    if has_labels(recipe):
        _adapt_own(recipe)
    evaluate(recipe.folder)
    return report(recipe.folder)


def record(
    game: str,
    out: Path,
    *,
    episodes: int,
    levels: tuple[int, int],
    seed: int,
    explore: float,
    wander: float,
    max_frames: int,
) -> dict[str, Any]:
    """Record a game into `out`: mp4 files without actions, and labels.parquet."""
    tree = {"game": game, "episodes": episodes, "levels": list(levels), "seed": seed}
    config = parse(
        {**tree, "explore": explore, "wander": wander, "max_frames": max_frames}, RecordConfig, "record"
    )
    with bar(f"record {game}") as show:
        summary = record_game(config, out, progress=show)
    return dataclasses.asdict(summary) | {"out": str(out)}


def ingest(
    sources: Sequence[str],
    out: Path,
    overrides: Sequence[str] = (),
    *,
    recipe: Path | None = None,
    camera: str | None = None,
    workers: Workers = POOL,
    share: Share | None = None,
) -> dict[str, Any]:
    """Turn videos into shards, or add those that are new to shards that are there; see `data.ingest.ingest`.

    Args:
        sources: videos, folders, patterns, lists, tars, robots' datasets, whose actions become labels.parquet.
        out: folder of the shards.
        overrides: key=value settings of the ingest.
        recipe: whose settings are taken, before the overrides.
        camera: of robots' datasets that have several.
        workers: who reads the videos.
        share: read only a share of them, as one of several processes.
    """
    base = {} if recipe is None else load_recipe(recipe).data.ingest.model_dump(mode="json")
    config = parse(override(base, overrides), IngestConfig, "ingest")
    with bar("ingest") as show:
        summary = ingest_videos(
            sources,
            out,
            config,
            camera=camera,
            progress=show,
            workers=workers,
            share=share,
            grow=True,
        )
    told = dataclasses.asdict(summary) | {"out": str(out)}
    if summary.waiting:
        return told
    found = find_sources(sources, [], config.test_share, camera=camera)
    if robots := [root for root in robots_among(found) if lerobot.has_actions(root)]:
        told["labels"] = str(keep_labels(out, robot_labels(robots, found, camera)))
    return told


def tokenize(run: Path, shards: str, out: Path) -> dict[str, Any]:
    """Store the tokens and codes of shards, by the models of a run; what is there already is not made again."""
    parents = {stage: read_artifact(run / stage, stage).sha256 for stage in ("tokenizer", "lam")}
    recipe = recipe_of(run)
    _use_threads(recipe.threads)
    tokenizer, lam = (
        load_tokenizer(run / "tokenizer").to(usual_device()),
        load_lam(run / "lam").to(usual_device()),
    )
    videos = ShardSet.open(shards, allow_commands=True)
    if videos.frame_hw != tokenizer.config.frame_hw:
        raise UserError(
            f"{shards}: frames of {videos.frame_hw} pixels, the run's tokenizer reads {tokenizer.config.frame_hw}; "
            "ingest the videos at that size"
        )
    with bar("tokenize") as show:
        summary = write_tokens(videos, tokenizer, lam, out, parents, show)
    return dataclasses.asdict(summary) | {"out": str(out)}


def data_report(shards: str, out: Path | None) -> dict[str, Any]:
    """Write report.html of a folder of shards: what was kept, what was not and why."""
    folder = _folder(shards)
    with bars() as show:
        return write_data_report(folder, out, show)


def data_verify(shards: str, *, deep: bool) -> dict[str, Any]:
    """Compare shards with what their index says.

    Returns:
        Counts, faults, notes, and `complaint`: null, or all that is wrong in one line.
    """
    with bar("verify") as show:
        return verify_shards(shards, deep=deep, progress=show, allow_commands=True).to_json()


def data_quality(
    shards: str, labels: Path, out: Path, *, features: str, pretrained: bool, weights: Path | None, seed: int
) -> dict[str, Any]:
    """Train the classifier of clips that `quality.path` of an ingest names."""
    with bar("clips") as show:
        about = train_quality(
            ShardSet.open(shards, allow_commands=True),
            labels,
            out,
            features=features,
            pretrained=pretrained,
            weights=weights,
            seed=seed,
            progress=show,
        )
    return {"labels": about["labels"], "cross_validation": about["cross_validation"], "out": str(out)}


def data_distract(
    shards: str, out: Path, kind: Kind, strength: int, backgrounds: str | None, seed: int
) -> dict[str, Any]:
    """Write shards again with something that moves and that nobody acts on; see `data.distract`."""
    others = None if backgrounds is None else ShardSet.open(backgrounds, allow_commands=True)
    config = DistractConfig(kind=kind, strength=strength, seed=seed)
    with bar("distract") as show:
        summary = distract_shards(ShardSet.open(shards, allow_commands=True), out, config, others, show)
    return dataclasses.asdict(summary) | {"out": str(out)}


def train_stage(recipe: Recipe, name: StageName) -> dict[str, Any] | None:
    """One training stage. The data it needs is made first; the stages it builds on must be finished.

    Returns:
        What was trained; None in a process beside the main one.
    """
    if name == "dynamics":
        expect_listable(recipe.lam.model.code)
    _prepare(recipe)
    summary = _train(recipe, name)
    return summary if leave_group() else None


def _folder(shards: str) -> Path:
    path = path_of(shards)
    if path is None:
        raise UserError(
            f"{shards}: is an address; expected a folder, so copy the shards with their manifest first"
        )
    return path


def adapt(run: Path, labels: Path, budget: int | None, out: Path) -> dict[str, Any]:
    """Learn a policy from a few labels of a run's own videos; writes it, with its normaliser, into `out`.

    Raises:
        UserError: no run, no labels, a budget too small, or `out` is where the run keeps its own policies.
    """
    recipe = recipe_of(run)
    if out.resolve().is_relative_to((run / "adapt").resolve()):
        raise UserError(
            f"--out: {out} is where genie-lite run keeps the policies that it compares; give another folder"
        )
    config = recipe.adapt
    if budget is not None:
        changed = {**config.model_dump(), "labels_budget": budget, "labels_episodes": None}
        config = parse(changed, AdaptConfig, "--labels-budget")
    expect_listable(recipe.lam.model.code)
    found = labels_at(labels)
    _extract_own(recipe)
    summary = _adapt(recipe, config, found, out, ("latent",))
    return {key: summary[key] for key in ("kind", "labels", "arms", "decoders", "seconds")} | {
        "out": str(out)
    }


def evaluate(run: Path) -> dict[str, Any]:
    """Measure a finished run; writes evaluate.json and returns it. What was measured before is not measured again.

    Raises:
        UserError: a stage is not finished, or the policies were made from something else than the run holds now.
    """
    recipe, path = recipe_of(run), run / "evaluate.json"
    _use_threads(recipe.threads)
    for name in TRAINED:  # before anything that takes long
        read_artifact(run / name, name)
    shards = shards_of(recipe)
    labels = labels_of(recipe) if has_labels(recipe) else None
    if labels is not None:
        _check_adapted(recipe, labels)
    _extract_own(recipe)
    hashes = _hashes(recipe, shards, labels)
    made_from = {
        "evaluate": json.loads(recipe.evaluate.model_dump_json()),
        "sampling": json.loads(recipe.sampling.model_dump_json()),
        "seed": recipe.seed,
        "hashes": hashes,
    }
    if (before := _read(path)).get("made_from") == made_from:
        say("evaluate: finished before")
        return before
    say("evaluate: running")
    begin = time.monotonic()
    with bars() as show:
        found = [evaluation.measure_world(recipe, shards, usual_device(), show, labels)]
        if labels is None:
            found.append(evaluation.Findings(left_out=[NO_LABELS]))
        else:
            controls = action_controls(run)
            codes_of = None if controls is None else controls.codes_of
            found += [
                evaluation.measure_codes(recipe, shards, labels, usual_device(), show),
                evaluation.measure_drive(recipe, shards, labels, codes_of, usual_device(), show),
                evaluation.measure_policies(recipe, labels, usual_device(), show),
            ]
    sections = {name: each for part in found for name, each in part.sections.items()}
    left_out = [sentence for part in found for sentence in part.left_out]
    # Measured from nothing each time, so what an earlier measurement took does not count.
    seconds = seconds_of(run) | {"evaluate": round(time.monotonic() - begin, 1)}
    write_json(run / "seconds.json", seconds)
    tree = {
        "about": _about(recipe, shards, left_out),
        "sources": count_sources(shards),
        **sections,
        "hashes": hashes,
        "seconds": seconds,
        "made_from": made_from,
    }
    write_json(path, tree)
    return tree


def report(run: Path) -> dict[str, Any]:
    """Write report.html and report.json of a run; returns where they are and what the report concludes."""
    tree = write_report(run)
    return {
        "report": str(run / "report.html"),
        "json": str(run / "report.json"),
        "answer": tree["verdict"]["answer"],
        "sentence": tree["verdict"]["sentence"],
        "seconds": tree["seconds"],
    }


def rollout(
    run: Path,
    start: Path | None,
    codes: Sequence[int],
    num_frames: int,
    seed: int,
    out: Path,
    *,
    batch: int = 1,
    cache: bool = True,
    compiled: bool = False,
    threads: int | None = None,
    refinements: int | None = None,
    replay_file: Path | None = None,
) -> dict[str, Any]:
    """Steer the world of a run and write exactly `num_frames` sampled frames.

    Args:
        run: a finished run.
        start: an image (PNG, JPEG, WebP, GIF, BMP), a video, or a folder of videos whose first one is taken; an
            exported run brings some, of which the first is taken where nothing is given.
        codes: applied in turn, and again from the beginning until there are enough.
        num_frames: frames to generate.
        seed: of all sampling.
        out: the mp4.
        batch: worlds that are stepped side by side; the first one is written.
        cache: keep keys and values of the past; without it, the same frames, many times slower.
        compiled: see `World`; such a world is another one, by its rounding.
        threads: of the CPU; the recipe's if not given.
        refinements: passes per frame; the recipe's if not given.
        replay_file: where to write a replay.

    Returns:
        sha256 of the frames' bytes and tokens_sha256 of their tokens: the same for the same run, start, codes, seed,
        refinements and `compiled` on the same machine. frames_per_s of generation, over all worlds, the first
        frame left out.
    """
    if replay_file is not None and replay_file.resolve() == out.resolve():
        raise UserError(f"--replay: {replay_file} is the file of --out, too; give another")
    recipe = recipe_of(run)
    config = frames_of(recipe)
    sampling = prepare_play(recipe, threads, refinements)
    world = evaluation.load_world(recipe, usual_device(), sampling, cache=cache, compiled=compiled)
    if unknown := [code for code in codes if code >= world.num_codes]:
        raise UserError(f"--codes: found {unknown[0]}, expected integers from 0 to {world.num_codes - 1}")
    frames = steer.first_frames(_start(run, start), config, recipe.evaluate.prompt_frames)
    taken = np.resize(np.asarray(codes, dtype=np.int64), num_frames)
    ride = steer.Ride(frames, taken, seed)
    with bar("rollout") as show:
        played, frames_per_s = steer.play(world, ride, batch, show)
    write_mp4(out, played.frames, config.rate_hz)
    if replay_file is not None:
        write_replay(replay_file, record_replay(ride, world, run, played))
    return {
        "sha256": played.sha256,
        "tokens_sha256": played.tokens_sha256,
        "frames_per_s": round(frames_per_s, 2),
        "frames": num_frames,
        "out": str(out),
    }


def prepare_play(
    recipe: Recipe, threads: int | None, refinements: int | None, together: int | None = None
) -> SamplingConfig:
    """Set the threads of the CPU and say how frames are drawn: as the recipe says where nothing else is given."""
    _use_threads(recipe.threads if threads is None else threads)
    asked = {"refinements": refinements, "micro_batch": together}
    given = {name: value for name, value in asked.items() if value is not None}
    return parse({**recipe.sampling.model_dump(), **given}, SamplingConfig, "--k, --together")


def replay(file: Path, run: Path | None = None, out: Path | None = None) -> dict[str, Any]:
    """Play a replay again in the world it was made in, and verify every frame.

    Args:
        file: that `rollout` wrote.
        run: whose world it was; where the replay found it, if not given.
        out: an mp4 to write, if given.

    Raises:
        UserError: no replay, another world, or frames that differ.
    """
    found = read_replay(file)
    run = run or Path(found.header.run)
    recipe, sampling = recipe_of(run), found.header.sampling
    if sampling.micro_batch > (most := max(LARGEST_GROUP, recipe.sampling.micro_batch)):
        raise UserError(
            f"{file}: sampling.micro_batch is {sampling.micro_batch}, expected at most {most}; if the machine has the "
            f"memory, set it in {run / 'recipe.yaml'} too"
        )
    _use_threads(recipe.threads)
    world = evaluation.load_world(recipe, usual_device(), sampling, compiled=found.header.compiled)
    with bar("replay") as show:
        played = verify(found, world, run, show)
    told = {"verified": True, "sha256": played.sha256, "frames": len(played.frames)}
    if out is None:
        return told
    write_mp4(out, played.frames, frames_of(recipe).rate_hz)
    return told | {"out": str(out)}


def export(run: Path, out: Path) -> dict[str, Any]:
    """Write a run's models, in half precision, with a card and frames to start from, into a folder of their own."""
    return export_models(run, out)


def _start(run: Path, start: Path | None) -> Path:
    if start is not None:
        return start
    own = run / STARTS_FOLDER / "0.png"
    if not own.is_file():
        raise UserError(
            f"--start: missing, and {run} brings no frames to start from; give a video or an image"
        )
    return own


# --- the stages of a run ---------------------------------------------------------------------------------


def _prepare(recipe: Recipe) -> None:
    """Record and ingest whatever the recipe asks for, and make the recipe that of the run.

    A process beside the main one waits until the data is there.

    Raises:
        UserError: the data cannot be made, or the run holds a stage that was trained from another recipe.
    """
    _check_processes(recipe)
    _use_threads(recipe.threads)
    if is_main_process():
        _record_own(recipe)
        _ingest_own(recipe)
    else:
        _await_shards(recipe)
    # Opened once: what is found damaged is told once.
    video = corpora_of(recipe, "lam")
    same = ("lam",) if recipe.lam.model.pair_s else ("tokenizer", "lam")
    for name in TRAINED:
        config, _ = _training_of(recipe, name)
        data = video if name in same else corpora_of(recipe, name)
        if name != "lam" or recipe.lam.model.pair_s is None:
            data.expect_one_rate()
        labels = _labels_for(recipe, config)
        check_labels(config, labels)
        origin = origin_of(config, data, recipe.seed, labels)
        check_trained(recipe.folder / name, origin)
    if is_main_process():
        keep_recipe(recipe)


def _check_processes(recipe: Recipe) -> None:
    """Processes that a launcher started and Lightning does not know of would each train, over one another's files."""
    devices, num_nodes = recipe.trainer.get("devices", "auto"), recipe.trainer.get("num_nodes", 1)
    expected = (len(devices) if isinstance(devices, list) else devices), num_nodes
    if num_started() == 1 or not all(isinstance(each, int) and each > 0 for each in expected):
        return
    if num_started() != expected[0] * expected[1]:
        raise UserError(
            f"trainer.devices: {devices} on {num_nodes} machine(s), but {num_started()} processes were started; "
            "make trainer.devices the processes per machine, and trainer.num_nodes the machines"
        )


def _await_shards(recipe: Recipe) -> None:
    """Wait for the main process. Should it fail, the launcher that started both ends this one, too."""
    while given_shards(recipe) is None and not (recipe.folder / "shards" / INDEX_FILE).is_file():
        time.sleep(WAIT_S)


def _record_own(recipe: Recipe) -> None:
    section = recipe.record
    if section is None:
        return
    splits = (
        ("train", section.episodes, section.levels, section.seed),
        ("test", section.test_episodes, section.test_levels, section.seed + 1),
    )
    videos = recipe.folder / "videos"
    with stage(recipe.folder, "record", *(videos / split / LABELS_FILE for split, *_ in splits)):
        for split, episodes, levels, seed in splits:
            shared = section.model_dump(include={"game", "explore", "wander", "max_frames"})
            wanted = {"episodes": episodes, "levels": list(levels), "seed": seed, **shared}
            config = parse(wanted, RecordConfig, f"record ({split})")
            with bar(f"record {split}") as show:
                record_game(config, videos / split, progress=show)


def _ingest_own(recipe: Recipe) -> None:
    if given_shards(recipe) is not None:
        return
    sources, test_sources = sources_of(recipe)
    out = recipe.folder / "shards"
    with stage(recipe.folder, "ingest", out / INDEX_FILE), bar("ingest") as show:
        ingest_videos(
            sources,
            out,
            recipe.data.ingest,
            test_sources=test_sources,
            camera=recipe.data.camera,
            progress=show,
        )


def _train(recipe: Recipe, name: StageName) -> dict[str, Any]:
    was_finished = is_finished(recipe.folder / name)
    if is_main_process() and not was_finished:
        say(f"{name}: training")
    config, trainer = _training_of(recipe, name)
    artifact = fit(
        name,
        config,
        corpora_of(recipe, name),
        recipe.folder,
        seed=recipe.seed,
        wandb=recipe.wandb,
        trainer=trainer,
        recipe_text=dump(recipe),
        strict=recipe.data.strict,
        labels=_labels_for(recipe, config),
    )
    if is_main_process() and was_finished:
        say(f"{name}: finished before")
    return {
        "stage": name,
        "folder": str(artifact.folder),
        "sha256": artifact.sha256,
        "seconds": artifact.seconds,
        "metrics": artifact.metrics,
    }


def _labels_for(recipe: Recipe, config: StageConfig) -> dict[str, Labels]:
    """True actions, for a stage that is shown some; any other never opens them."""
    return labels_in_training(recipe) if config.uses_labels else {}


def _training_of(recipe: Recipe, name: StageName) -> tuple[StageConfig, dict[str, Any]]:
    """A stage's settings and the trainer's; `trainer.strategy` is short for `train.strategy` of every stage."""
    config: StageConfig = getattr(recipe, name)
    trainer = dict(recipe.trainer)
    strategy = trainer.pop("strategy", config.train.strategy)
    if not isinstance(strategy, str):
        raise UserError(f"trainer.strategy: found {strategy!r}, expected a name, such as ddp")
    train = config.train.model_copy(update={"strategy": strategy})
    return config.model_copy(update={"train": train}), trainer


def _extract_own(recipe: Recipe) -> None:
    """The latent actions of a run's own transitions, made if they are missing or stale."""
    out, folder = recipe.folder / "latents", recipe.folder / "lam"
    with stage(recipe.folder, "extract", out / "manifest.json"), bar("extract") as show:
        lam, shards = load_lam(folder).to(usual_device()), shards_of(recipe)
        # Of the world's own steps, whatever distances the model knows.
        window_s, sha256 = 1 / shards.rate_hz, read_artifact(folder, "lam").sha256
        extract_latents(
            lam,
            shards,
            out,
            lam_sha=sha256,
            window_s=window_s,
            workers=processes_for(shards),
            progress=show,
        )


def _adapt_own(recipe: Recipe) -> None:
    """All arms of the comparison."""
    out, labels = recipe.folder / "adapt", labels_of(recipe)
    with stage(recipe.folder, "adapt", out / "adapt.json"):
        if change_since_adapt(recipe, labels):
            (out / "adapt.json").unlink()  # while its arms are made again, it speaks of none of them
        _adapt(recipe, recipe.adapt, labels, out, ARMS)


def _check_adapted(recipe: Recipe, labels: Labels) -> None:
    """Old policies must not be scored as those of new models."""
    path = recipe.folder / "adapt" / "adapt.json"
    if change := change_since_adapt(recipe, labels):
        raise UserError(f"{path}: was made with {change}; run genie-lite run to adapt again")
    if labels.kind == "continuous" and not path.is_file():
        raise UserError(f"{path}: missing, nothing was adapted yet; run genie-lite run to adapt")


def _adapt(
    recipe: Recipe, config: AdaptConfig, labels: Labels, out: Path, arms: Sequence[Arm]
) -> dict[str, Any]:
    with bars() as show:
        adapted = adapt_shards(
            shards_of(recipe),
            recipe.folder / "latents",
            labels,
            out,
            config,
            seed=recipe.seed,
            arms=arms,
            device=usual_device(),
            progress=show,
            eye=load_lam(recipe.folder / "lam").eye if recipe.lam.model.input.kind == "timm" else None,
        )
    return adapted.summary


def _hashes(recipe: Recipe, shards: ShardSet, labels: Labels | None) -> dict[str, str]:
    """Of everything that measurements rest on."""
    hashes = weights_of(recipe.folder)
    hashes["shards"] = shards.fingerprint
    hashes["latents"] = sha256_of(recipe.folder / "latents" / "manifest.json")
    if labels is not None:
        hashes["labels"] = fingerprint(labels)
    adapted = recipe.folder / "adapt" / "adapt.json"
    if adapted.is_file():
        hashes["adapt"] = sha256_of(adapted)
    return hashes


def _read(path: Path) -> dict[str, Any]:
    """Earlier measurements; none where there is no such file, or not a whole one: they can be made again."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}


def _about(recipe: Recipe, shards: ShardSet, left_out: list[str]) -> dict[str, Any]:
    height, width = shards.frame_hw
    # The end of a path says what it is; the rest, where somebody keeps things.
    places = [] if recipe.record else [Path(source) for source in sources_of(recipe)[0]]
    sources = [recipe.record.game] if recipe.record else [str(Path(*path.parts[-2:])) for path in places]
    counts = [f"{count} {status}" for status, count in count_sources(shards).items()]
    lines = {
        "video": f"{', '.join(sources)}, {width}×{height} px, {shards.rate_hz:g} Hz",
        **({"sources": ", ".join(counts)} if counts else {}),
        "frames": f"{shards.num_frames('train')} to train on, {shards.num_frames('test')} held out",
        "seed": str(recipe.seed),
    }
    shown = [
        f"the {who} has seen the true actions of {_count(section.labels)}"
        for who, section in (("latent action model", recipe.lam), ("dynamics model", recipe.dynamics))
        if section.labels is not None and section.uses_labels
    ]
    if shown:
        lines["labels in training"] = "; ".join(shown)
    return {"title": recipe.name, "lines": lines | ({"left out": " ".join(left_out)} if left_out else {})}


def _count(asked: LabelsConfig) -> str:
    return f"{asked.budget} transitions" if asked.episodes is None else f"{asked.episodes} episodes"


def _use_threads(num: int | None) -> None:
    if num is not None:
        torch.set_num_threads(num)
