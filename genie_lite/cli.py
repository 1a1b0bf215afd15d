"""The command line: one thin command each, all work is done in `pipeline.py`.

Exit codes: 0 done, 2 the user's mistake (one line on stderr), 130 Ctrl-C, 1 ours (a traceback to report).
Results go to stdout, as one JSON object with `--json`; progress, logs and warnings go to stderr.
Heavy modules are imported inside the commands, so that `--help` answers at once.
"""

import contextlib
import errno
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from genie_lite import __version__
from genie_lite.errors import UserError

# What the machine refuses for reasons that only its user can change, and what to do.
ADVICE = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some space or write somewhere else")
ADVICE |= dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "allow it or use another place")
ADVICE |= dict.fromkeys((errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG), "give another path")
INTERRUPTED = 130  # as a shell tells Ctrl-C; some versions of typer return it instead of raising

app = typer.Typer(
    help="Unlabelled video in; latent actions, a steerable world and a robot policy out.",
    epilog="`--debug`, anywhere on the line, shows the traceback of a mistake. `--pretrained NAME`, anywhere, "
    "stands for the RUN of models that come with the toolkit.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Stage(StrEnum):
    """The stages that are trained."""

    tokenizer = "tokenizer"
    lam = "lam"
    dynamics = "dynamics"


class EngineName(StrEnum):
    """What reads videos."""

    pool = "pool"
    ray = "ray"


class Distraction(StrEnum):
    """What `data distract` puts over footage."""

    background = "background"
    shake = "shake"
    colour = "colour"


class Format(StrEnum):
    """The layouts that `extract` writes."""

    parquet = "parquet"
    webdataset = "webdataset"
    lerobot_v3 = "lerobot-v3"
    lerobot_v3_action = "lerobot-v3-action"
    lerobot_v21 = "lerobot-v2.1"
    lapa = "lapa"
    lary = "lary"


Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="Such as recipes/maze/demo.yaml.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the recipe: lam.train.steps=100."),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, such as runs/maze-demo.")]
Shards = Annotated[str, typer.Argument(metavar="SHARDS", help="A folder of shards, or its address.")]
Out = Annotated[Path, typer.Option("--out", help="Where to write.")]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--address", metavar="HOST:PORT", help="Of a Ray cluster; one is started here if not given."
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Everything random follows from it.")]
Compiled = Annotated[
    bool, typer.Option("--compile", help="Let torch.compile make it faster, after half a minute.")
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads of the CPU.")]
Refinements = Annotated[
    int | None, typer.Option("--k", min=1, max=25, help="Passes per frame instead of the recipe's.")
]


def _print_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit
    return wanted


data_app = typer.Typer(help="Look after shards.", rich_markup_mode=None)
app.add_typer(data_app, name="data")


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Unlabelled video in; latent actions, a steerable world and a robot policy out."""


@app.command()
def record(
    game: Annotated[str, typer.Argument(metavar="GAME", help="A game, such as maze, coinrun or toy.")],
    out: Out,
    episodes: Annotated[int, typer.Option(min=1, help="How many episodes, one video each.")],
    levels: Annotated[
        str | None, typer.Option(metavar="A:B", help="Levels A to B - 1; 0:N if not given.")
    ] = None,
    seed: Seed = 0,
    explore: Annotated[float, typer.Option(min=0, max=1, help="Share of exploratory moves.")] = 0.3,
    wander: Annotated[float, typer.Option(min=0, max=1, help="Share of episodes that stroll about.")] = 0.0,
    max_frames: Annotated[int, typer.Option(min=2, help="Frames after which an episode is ended.")] = 200,
    as_json: Json = False,
) -> None:
    """Let an agent play a game: videos without actions, and the actions in a file apart."""
    from genie_lite import pipeline

    with _stdout_is_for_results():
        summary = pipeline.record(
            game,
            out,
            episodes=episodes,
            levels=(0, episodes) if levels is None else _levels(levels),
            seed=seed,
            explore=explore,
            wander=wander,
            max_frames=max_frames,
        )
    _tell(summary, as_json)


@app.command()
def ingest(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SRC... [RECIPE] [KEY=VALUE]...",
            help="Videos, folders, 'patterns*', lists.txt, tars, LeRobot datasets; a recipe.yaml; settings.",
        ),
    ],
    out: Out,
    camera: Annotated[str | None, typer.Option(help="Of LeRobot datasets that have several.")] = None,
    engine: Annotated[EngineName, typer.Option(help="Who reads the videos.")] = EngineName.pool,
    workers: Annotated[
        int | None, typer.Option(min=1, help="How many videos are read at a time; one per core if not given.")
    ] = None,
    address: RayAddress = None,
    shard_index: Annotated[
        int | None,
        typer.Option(min=0, metavar="I", help="Read only share I of --num-shards, as in an array of jobs."),
    ] = None,
    num_shards: Annotated[int | None, typer.Option(min=1, metavar="N", help="See --shard-index.")] = None,
    as_json: Json = False,
) -> None:
    """Turn videos into shards for training; what cannot be used is set aside with a reason.

    Run again, it adds the videos that are new.
    """
    from genie_lite import pipeline
    from genie_lite.data.ingest.workers import Share, Workers

    if (shard_index is None) != (num_shards is None):
        raise UserError("ingest: --shard-index and --num-shards belong together; give both")
    _expect_ray(engine, address, "ingest")
    overrides = [source for source in sources if _is_override(source)]
    recipes = [source for source in sources if Path(source).suffix in (".yaml", ".yml")]
    named = [source for source in sources if source not in overrides and source not in recipes]
    if not named:
        raise UserError("ingest: no source given; name at least one video or folder")
    if len(recipes) > 1:
        raise UserError(f"ingest: {len(recipes)} recipes given ({', '.join(recipes)}); expected at most one")
    with _stdout_is_for_results():
        summary = pipeline.ingest(
            named,
            out,
            overrides,
            recipe=Path(recipes[0]) if recipes else None,
            camera=camera,
            workers=Workers(engine.value, workers, address),
            share=None if shard_index is None or num_shards is None else Share(shard_index, num_shards),
        )
    _tell(summary, as_json)


@app.command()
def run(recipe: RecipeFile, overrides: Overrides = None, as_json: Json = False) -> None:
    """Run all stages of a recipe; finished stages are skipped, a broken one is resumed."""
    from genie_lite import pipeline
    from genie_lite.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    with _stdout_is_for_results():
        summary = pipeline.run(loaded)
    _tell(summary, as_json)


@app.command()
def train(
    recipe: RecipeFile,
    stage: Annotated[Stage, typer.Option(help="Which model to train.")],
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Train one stage of a recipe; the stages that it builds on must be finished."""
    from genie_lite import pipeline
    from genie_lite.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    with _stdout_is_for_results():
        summary = pipeline.train_stage(loaded, stage.value)
    _tell(summary, as_json)


@app.command()
def extract(
    run: Run,
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="Videos, a LeRobot dataset, or a folder or URL of shards.")
    ],
    out: Out,
    layout: Annotated[
        Format, typer.Option("--format", help="For whom; docs/latent-actions.md describes each.")
    ] = Format.parquet,
    rate_hz: Annotated[
        float | None,
        typer.Option(
            "--rate", min=0.01, help="Rows per second; a robot's own, or the model's, if not given."
        ),
    ] = None,
    window_s: Annotated[
        float | None,
        typer.Option(
            "--window-s", min=0.001, help="Seconds that an action spans; the model's own if not given."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="SRC", help="True actions to write beside; those of a LeRobot dataset come along."
        ),
    ] = None,
    camera: Annotated[str | None, typer.Option(help="Of a LeRobot dataset that has several.")] = None,
    cuts: Annotated[
        bool | None,
        typer.Option("--cuts/--no-cuts", help="Whether cuts end a shot; not looked for in robots' episodes."),
    ] = None,
    engine: Annotated[EngineName, typer.Option(help="Who reads the videos and encodes.")] = EngineName.pool,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that read videos, and that encode.")
    ] = None,
    address: RayAddress = None,
    as_json: Json = False,
) -> None:
    """Write the latent action of every frame, as columns that other trainers read."""
    from genie_lite.data.ingest.workers import Workers
    from genie_lite.extraction import Wanted, extract_latents

    _expect_ray(engine, address, "extract")
    wanted = Wanted(
        source,
        out,
        layout.value,
        rate_hz,
        window_s,
        labels,
        camera,
        cuts,
        Workers(engine.value, workers, address),
    )
    with _stdout_is_for_results():
        summary = extract_latents(run, wanted)
    _tell(summary, as_json)


@app.command()
def inspect(
    run: Run,
    shards: Annotated[
        str | None,
        typer.Argument(metavar="[SHARDS]", help="With held-out shots; the run's own if not given."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="SRC", help="True actions: labels.parquet, its folder, or a LeRobot dataset."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="A folder; RUN/inspect if not given.")] = None,
    clips: Annotated[int, typer.Option(min=2, help="Held-out clips to look at.")] = 512,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Say whether the latent actions are any good, for what, and why: inspect.html and inspect.json."""
    from genie_lite.inspect.config import InspectConfig
    from genie_lite.inspection import inspect_run

    with _stdout_is_for_results():
        summary = inspect_run(run, shards, labels, out, InspectConfig(clips=clips, seed=seed))
    _tell(summary, as_json)


@app.command()
def adapt(
    run: Run,
    labels: Annotated[
        Path, typer.Option(metavar="SRC", help="labels.parquet, its folder, or a LeRobot dataset.")
    ],
    out: Out,
    labels_budget: Annotated[
        int | None, typer.Option(min=2, help="How many labelled transitions to open.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Learn what the codes mean from a few labels, relabel the video, and clone a policy from it."""
    from genie_lite import pipeline

    with _stdout_is_for_results():
        summary = pipeline.adapt(run, labels, labels_budget, out)
    _tell(summary, as_json)


@app.command()
def reward(
    run: Run,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="SRC", help="With rewards or ends: labels.parquet, its folder, or a LeRobot dataset."
        ),
    ] = None,
    labels_episodes: Annotated[
        int | None, typer.Option(min=2, help="How many labelled episodes to open, at most; 100.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Learn from labelled episodes when the world rewards and ends, for acting in it with Gymnasium."""
    from dataclasses import asdict

    from genie_lite.folder import labels_at
    from genie_lite.progress import bars
    from genie_lite.rl.fit import fit_reward
    from genie_lite.rl.reward import RewardConfig

    config = RewardConfig() if labels_episodes is None else RewardConfig(labels_episodes=labels_episodes)
    with _stdout_is_for_results(), bars() as show:
        _, score = fit_reward(run, None if labels is None else labels_at(labels), config, progress=show)
    _tell(asdict(score), as_json)


@app.command()
def evaluate(run: Run, as_json: Json = False) -> None:
    """Measure a run on held-out episodes and levels; writes evaluate.json into the run."""
    from genie_lite import pipeline

    with _stdout_is_for_results():
        results = pipeline.evaluate(run)
    _tell(results, as_json)


@app.command()
def report(run: Run, as_json: Json = False) -> None:
    """Write report.html, one self-contained page, and report.json into a run."""
    from genie_lite import pipeline

    with _stdout_is_for_results():
        summary = pipeline.report(run)
    _tell(summary, as_json)


@app.command()
def rollout(
    run: Run,
    codes: Annotated[str, typer.Option(metavar="0,3,3,1", help="Codes to apply, repeated as needed.")],
    frames: Annotated[int, typer.Option(min=1, help="How many frames to generate.")],
    out: Out,
    start: Annotated[
        Path | None,
        typer.Option(metavar="SRC", help="A video or an image to start from; exported runs bring some."),
    ] = None,
    seed: Seed = 0,
    batch: Annotated[int, typer.Option(min=1, help="Worlds side by side; the first one is written.")] = 1,
    cache: Annotated[
        bool,
        typer.Option("--cache/--no-cache", help="Keep keys and values of the past: same frames, faster."),
    ] = True,
    compiled: Compiled = False,
    threads: Threads = None,
    refinements: Refinements = None,
    replay_file: Annotated[
        Path | None, typer.Option("--replay", metavar="FILE", help="Write a replay, to be verified later.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Steer the world from a start frame with codes and write what it shows as an mp4."""
    from genie_lite import pipeline

    with _stdout_is_for_results():
        summary = pipeline.rollout(
            run,
            start,
            _codes(codes),
            frames,
            seed,
            out,
            batch=batch,
            cache=cache,
            compiled=compiled,
            threads=threads,
            refinements=refinements,
            replay_file=replay_file,
        )
    _tell(summary, as_json)


@app.command()
def play(
    run: Run,
    host: Annotated[
        str, typer.Option(help="Address to listen at; with the default, only this machine reaches it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="A name that the server is reached by, too."),
    ] = None,
    sessions: Annotated[int, typer.Option(min=1, help="How many can play at once.")] = 16,
    idle_s: Annotated[
        float, typer.Option("--idle-s", min=1, help="Seconds after which a game that nobody plays is ended.")
    ] = 900.0,
    open_browser: Annotated[bool, typer.Option("--open", help="Show the page in the browser.")] = False,
    compiled: Compiled = False,
    threads: Threads = None,
    refinements: Refinements = None,
    together: Annotated[
        int | None,
        typer.Option(min=1, max=4096, help="Players computed together: faster for many, slower for one."),
    ] = None,
) -> None:
    """Play the world in the browser, alone or with others."""
    from genie_lite import pipeline
    from genie_lite.folder import recipe_of
    from genie_lite.play.config import PlayConfig
    from genie_lite.play.serve import serve

    sampling = pipeline.prepare_play(recipe_of(run), threads, refinements, together)
    config = PlayConfig(sessions=sessions, idle_s=idle_s, hosts=tuple(allow or ()))
    serve(
        run,
        host,
        port,
        open_browser=open_browser,
        config=config,
        sampling=sampling,
        compiled=compiled,
        say=typer.echo,
    )


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What rollout --replay wrote.")],
    run: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The run it was played in, if that has moved.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="An mp4 to write.")] = None,
    as_json: Json = False,
) -> None:
    """Play a replay again and verify that every frame is the same."""
    from genie_lite import pipeline

    with _stdout_is_for_results():
        summary = pipeline.replay(file, run, out)
    _tell(summary, as_json)


@app.command()
def tokenize(
    run: Run,
    shards: Shards,
    out: Out,
    as_json: Json = False,
) -> None:
    """Store the tokens and latent actions of shards, so that training the dynamics model decodes no video."""
    from genie_lite import pipeline

    with _stdout_is_for_results():
        summary = pipeline.tokenize(run, shards, out)
    _tell(summary, as_json)


@data_app.command("report")
def data_report(
    shards: Shards,
    out: Annotated[
        Path | None, typer.Option("--out", help="A folder; that of the shards if not given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write report.html, one page on what was kept, what was not and why, with pictures."""
    from genie_lite import pipeline

    with _stdout_is_for_results():
        summary = pipeline.data_report(shards, out)
    _tell(summary, as_json)


@data_app.command("verify")
def data_verify(
    shards: Shards,
    deep: Annotated[bool, typer.Option("--deep", help="Decode every sample, too.")] = False,
    as_json: Json = False,
) -> None:
    """Compare every shard with what its index says; exit code 2 if anything is missing or altered."""
    from genie_lite import pipeline

    with _stdout_is_for_results():
        summary = pipeline.data_verify(shards, deep=deep)
    _tell(summary, as_json)
    if summary["complaint"]:
        raise UserError(summary["complaint"])


@data_app.command("quality")
def data_quality(
    shards: Shards,
    labels: Annotated[Path, typer.Option(metavar="CSV", help="Columns key (or source) and label.")],
    out: Out,
    features: Annotated[str, typer.Option(help="A model of timm whose features are used.")] = "resnet18",
    no_pretrained: Annotated[
        bool, typer.Option("--no-pretrained", help="With random weights, which need no download.")
    ] = False,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Those weights as .safetensors, where there is no network."),
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Learn from labelled clips which are good enough to train on; ingest filters by it: quality.path=OUT."""
    from genie_lite import pipeline

    with _stdout_is_for_results():
        summary = pipeline.data_quality(
            shards,
            labels,
            out,
            features=features,
            pretrained=not no_pretrained,
            weights=weights,
            seed=seed,
        )
    _tell(summary, as_json)


@data_app.command("distract")
def data_distract(
    shards: Shards,
    out: Out,
    kind: Annotated[Distraction, typer.Option(help="What moves that nobody acts on.")],
    strength: Annotated[int, typer.Option(min=1, max=3, help="How far it goes.")] = 2,
    backgrounds: Annotated[
        str | None, typer.Option(metavar="SHARDS", help="Other footage, for --kind background.")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Write shards again with a distractor, to test latent actions on: they should not name it."""
    from genie_lite import pipeline

    with _stdout_is_for_results():
        summary = pipeline.data_distract(shards, out, kind.value, strength, backgrounds, seed)
    _tell(summary, as_json)


@app.command()
def export(run: Run, out: Out, as_json: Json = False) -> None:
    """Write a run's models alone, in half precision, with a card: small enough to hand on."""
    from genie_lite import pipeline

    with _stdout_is_for_results():
        summary = pipeline.export(run, out)
    _tell(summary, as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what is installed, which devices there are, and what would fail and why."""
    from dataclasses import asdict

    from genie_lite.doctor import diagnose, has_failed

    with _stdout_is_for_results():
        findings = diagnose()
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            typer.echo(f"{finding.state:<5} {finding.name}: {finding.detail}")
            if finding.advice:
                typer.echo(f"      -> {finding.advice}")
    if has_failed(findings):
        raise typer.Exit(2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    kept = [each for each in given if each != "--debug"]
    sys.exit(_guarded(kept or ["--help"], debug="--debug" in given))


def _guarded(arguments: list[str], *, debug: bool) -> int:
    """Run one command and turn the user's mistakes into one line and exit code 2."""
    warnings.showwarning = _show_warning
    try:
        code = app(args=with_pretrained(arguments), prog_name="genie-lite", standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        message = _mistake(error)
        if message is None or debug:
            raise
        typer.echo(f"error: {' '.join(message.split())}", err=True)
        return 2
    if code == INTERRUPTED:
        typer.echo("interrupted; run the same command again to go on", err=True)
    return code


def with_pretrained(arguments: list[str]) -> list[str]:
    """Put the folder that `--pretrained NAME` means where the run stands: right after the command."""
    if "--pretrained" not in arguments:
        return arguments
    from genie_lite.pretrained import names, pretrained

    place = arguments.index("--pretrained")
    command, *rest = arguments[:place] + arguments[place + 2 :] or [""]
    if place + 1 == len(arguments) or not command:
        raise UserError(
            f"--pretrained: expected a command before it and a name after it: {', '.join(names())}"
        )
    return [command, str(pretrained(arguments[place + 1])), *rest]


def _mistake(error: Exception) -> str | None:
    """What the user did wrong, or None where the fault is ours."""
    if isinstance(error, UserError):
        return str(error)
    # The parser's own errors: a missing option, a choice that does not exist. Their class moved between versions.
    if hasattr(error, "format_message") and getattr(error, "exit_code", 1) == 2:
        return f"{error.format_message()} (genie-lite --help)"  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(error, OSError) and error.errno in ADVICE:
        return f"{error.filename or 'disk'}: {error.strerror}; {ADVICE[error.errno]}"
    return None


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    # Lightning and torch warn about their own insides; ours are about the user's data and choices.
    if issubclass(category, UserWarning):
        typer.echo(f"warning: {' '.join(str(message).split())}", err=True)


@contextlib.contextmanager
def _stdout_is_for_results() -> Iterator[None]:
    """Whatever is printed while work goes on belongs to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _tell(result: dict[str, Any] | None, as_json: bool) -> None:
    if result is None:  # of a process that only took part in training: another one tells
        return
    if as_json:
        typer.echo(json.dumps(result))
        return
    from genie_lite.config import leaves

    for key, value in leaves(result):
        typer.echo(f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}")


def _expect_ray(engine: EngineName, address: str | None, command: str) -> None:
    if address is not None and engine is not EngineName.ray:
        raise UserError(f"{command}: --address is that of a Ray cluster; add --engine ray")


def _is_override(text: str) -> bool:
    """`rate_hz=5` is a setting; a path that exists is a path, whatever its name."""
    key, equals, _ = text.partition("=")
    return bool(equals) and key.replace(".", "").isidentifier() and not Path(text).exists()


def _levels(text: str) -> tuple[int, int]:
    first, colon, end = text.partition(":")
    if not (colon and first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise UserError(f"--levels: found '{text}', expected A:B with A < B, such as 0:1000")
    return int(first), int(end)


def _codes(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UserError(f"--codes: found '{text}', expected whole numbers between commas, such as 0,3,3,1")
    return [int(part) for part in parts]
