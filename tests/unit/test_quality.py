"""A quality classifier learns from a few labels, is one folder, and scores a clip alike wherever that is done."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from genie_lite.config import load
from genie_lite.data.quality import training as quality_training
from genie_lite.data.quality.figures import FIGURES, figures
from genie_lite.data.quality.judge import Judge, QualityConfig
from genie_lite.data.quality.training import train_quality
from genie_lite.data.quality.vision import Vision, VisionConfig, evenly
from genie_lite.data.shards.index import index_of
from genie_lite.data.shards.shards import Sample, ShardSet, ShardWriter
from genie_lite.data.video.codec import encode_mp4
from genie_lite.errors import UserError
from genie_lite.files import write_json
from tests.forked import run_forked
from tests.videos import wandering_square

TINY = "test_vit"  # timm's smallest; without weights nothing is downloaded
SIZE_PX, NUM_FRAMES = 24, 8
NUM_CLIPS = 12  # of either label, each of a source of its own


def good(number: int) -> np.ndarray:
    return wandering_square(f"good {number}", NUM_FRAMES, SIZE_PX)


def bad(number: int) -> np.ndarray:
    """Noise, or a picture that stands still."""
    random = np.random.default_rng(number)
    frames = random.integers(0, 256, (NUM_FRAMES, SIZE_PX, SIZE_PX, 3)).astype(np.uint8)
    return frames if number % 2 else np.repeat(wandering_square(f"{number}", 1, SIZE_PX), NUM_FRAMES, axis=0)


def write_clips(folder: Path, clips: Mapping[str, bytes | np.ndarray], clips_per_source: int = 1) -> ShardSet:
    """Shards of five clips; every so many clips in a row are of one source."""
    folder.mkdir(parents=True)
    shards, names = [], list(clips)
    for number, start in enumerate(range(0, len(names), 5)):
        with ShardWriter(folder, "train", number) as writer:
            for place in range(start, min(start + 5, len(names))):
                clip = clips[names[place]]
                mp4 = clip if isinstance(clip, bytes) else encode_mp4(clip, 10.0)
                source = f"{names[place // clips_per_source * clips_per_source]}.mp4"
                about = {"num_frames": NUM_FRAMES, "source_frames": list(range(NUM_FRAMES))}
                writer.add(Sample(names[place], mp4, {"source": source} | about))
            shards.append(writer.close())
    write_json(folder / "shards.json", index_of(shards, {"size_px": SIZE_PX, "rate_hz": 10.0}))
    return ShardSet.open(folder)


def write_labels(path: Path, labels: dict[str, str], column: str = "key") -> Path:
    path.write_text(f"{column},label\n" + "".join(f"{name},{label}\n" for name, label in labels.items()))
    return path


CLIPS = {
    f"{kind}-{number}": make(number) for kind, make in (("good", good), ("bad", bad)) for number in range(12)
}
LABELS = {name: name.partition("-")[0] for name in CLIPS}


def train(shards: ShardSet, labels: Path, out: Path, **options: Any) -> dict[str, Any]:
    return train_quality(shards, labels, out, **{"features": TINY, "pretrained": False, "seed": 0} | options)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return write_clips(tmp_path_factory.mktemp("quality") / "shards", CLIPS)


@pytest.fixture(scope="module")
def folder(shards: ShardSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained classifier."""
    parent = tmp_path_factory.mktemp("trained")
    train(shards, write_labels(parent / "labels.csv", LABELS), parent / "quality")
    return parent / "quality"


@pytest.fixture
def unvalidated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training without the many fits of the cross-validation, for what has nothing to do with it."""
    monkeypatch.setattr(quality_training, "_validation", lambda keys, examples, seed: {})


def copy_of(
    folder: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any] = lambda tree: None
) -> Path:
    """The same classifier, with its index changed."""
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    tree = json.loads((folder / "quality.json").read_text())
    change(tree)
    write_json(tmp_path / "quality.json", tree)
    return tmp_path


# --- what is learned -------------------------------------------------------------------------------------


def test_good_clips_score_more_than_bad_ones_it_has_not_seen(folder: Path) -> None:
    judge = Judge.load(folder)
    assert min(judge.scores([good(number) for number in range(50, 54)])) > 0.5
    assert max(judge.scores([bad(number) for number in range(50, 54)])) < 0.5


def test_it_reports_what_held_out_sources_say(folder: Path) -> None:
    about = Judge.load(folder).about
    assert about["labels"]["good"] == about["labels"]["bad"] == {"clips": NUM_CLIPS, "sources": NUM_CLIPS}
    found = about["cross_validation"]
    assert found["folds"] == 5
    assert 0.9 < found["roc_auc"]["mean"] <= 1
    assert found["roc_auc"]["low"] <= found["roc_auc"]["mean"] <= found["roc_auc"]["high"]
    assert found["roc_auc"]["num"] == 2 * NUM_CLIPS
    assert found["thresholds"]["0.5"]["precision"]["mean"] > 0.8
    assert found["thresholds"]["0.5"]["recall"]["mean"] > 0.8
    kept = [found["thresholds"][at]["kept"]["mean"] for at in ("0.1", "0.3", "0.5", "0.7", "0.9")]
    assert kept == sorted(kept, reverse=True)


def test_a_wrong_label_is_pointed_at(shards: ShardSet, tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "labels.csv", LABELS | {"bad-3": "good"})
    about = train(shards, labels, tmp_path / "quality")
    assert about["cross_validation"]["doubtful"][0]["key"] == "bad-3"
    assert about["cross_validation"]["doubtful"][0]["label"] == "good"


@pytest.mark.usefixtures("unvalidated")
def test_a_labelled_source_labels_its_clips_and_weighs_as_one_label(tmp_path: Path) -> None:
    shards = write_clips(tmp_path / "shards", CLIPS, clips_per_source=3)
    names = {f"{name}.mp4": LABELS[name] for name in list(CLIPS)[::3]}
    seen: list[tuple[int, int]] = []
    about = train(
        shards,
        write_labels(tmp_path / "labels.csv", names, "source"),
        tmp_path / "quality",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert about["labels"]["good"] == {"clips": NUM_CLIPS, "sources": 4}
    assert seen == [(done, 2 * NUM_CLIPS) for done in range(1, 2 * NUM_CLIPS + 1)]
    labels = quality_training.read_quality_labels(tmp_path / "labels.csv")
    vision = Vision.create(TINY, pretrained=False)
    found = quality_training._find(shards, labels)
    _, examples = quality_training._examples(shards, labels, found, vision, None)
    assert examples.weight == pytest.approx(np.full(2 * NUM_CLIPS, 1 / 3))


@pytest.mark.usefixtures("unvalidated")
def test_the_same_labels_and_seed_give_the_same_classifier(
    shards: ShardSet, folder: Path, tmp_path: Path
) -> None:
    labels = write_labels(tmp_path / "labels.csv", dict(reversed(LABELS.items())))
    train(shards, labels, tmp_path / "again")
    assert Judge.load(tmp_path / "again").sha256 == Judge.load(folder).sha256


# --- scoring ---------------------------------------------------------------------------------------------


def test_a_score_does_not_depend_on_the_company(folder: Path) -> None:
    judge = Judge.load(folder)
    clips = [good(1), bad(1), wandering_square("long", 20, 40), good(2)[:1]]
    alone = [Judge.load(folder).score(clip) for clip in clips]
    assert judge.scores(clips) == alone
    assert judge.scores(clips[::-1]) == alone[::-1]
    assert judge.scores([]) == []
    assert all(0 <= score <= 1 for score in alone)


def test_every_process_gives_the_same_score(folder: Path, tmp_path: Path) -> None:
    judge, clips = Judge.load(folder), [good(1), bad(2)]
    here = judge.scores(clips)  # loaded: what is sent is the folder, not the model
    sent = tmp_path / "sent"
    sent.write_bytes(pickle.dumps((judge, clips)))
    script = (
        "import pickle, sys; judge, clips = pickle.load(open(sys.argv[1], 'rb')); print(judge.scores(clips))"
    )
    done = run_forked(["-c", script, str(sent)], tmp_path)
    assert json.loads(done.stdout) == here, done.stderr


def test_scoring_leaves_torch_as_it_was(folder: Path) -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    torch.set_num_threads(2)
    try:
        Judge.load(folder).score(good(1))
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.random.get_rng_state(), state)
    finally:
        torch.set_num_threads(threads)


def test_a_recipe_names_a_classifier_without_loading_torch(folder: Path) -> None:
    script = (
        "import sys; from genie_lite.data.quality.judge import Judge; "
        f"Judge.load({str(folder)!r}).sha256; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_config_is_checked(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("path: quality\nmin_score: 1.5\n")
    with pytest.raises(UserError, match=r"min_score: found 1\.5; expected at most 1"):
        load(tmp_path / "r.yaml", QualityConfig)
    assert QualityConfig(path="quality").min_score == 0.5


@pytest.mark.parametrize("num_frames", [1, 3, 4, 5, 160])
def test_frames_are_looked_at_evenly(num_frames: int) -> None:
    chosen = evenly(num_frames, 4)
    assert len(chosen) == 4
    assert chosen == sorted(chosen)
    assert 0 <= chosen[0] <= chosen[-1] < num_frames
    assert abs(chosen[0] - (num_frames - 1 - chosen[-1])) <= 1


# --- figures ---------------------------------------------------------------------------------------------


def measured(frames: np.ndarray) -> dict[str, float]:
    return dict(zip(FIGURES, figures(frames).tolist(), strict=True))


def test_figures_tell_stillness_noise_and_slideshows() -> None:
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (10, 64, 64, 3)).astype(np.uint8)
    still, slides = np.repeat(noise[:1], 10, axis=0), np.repeat(noise[:2], 5, axis=0)
    moving = measured(wandering_square("a", 10, 64))
    assert measured(still)["motion"] == measured(still)["jump"] == measured(still)["grain"] == 0
    assert measured(still)["stillness"] == 1
    assert measured(slides)["stillness"] == pytest.approx(8 / 9)
    assert measured(slides)["jump"] > measured(slides)["motion"] + 1
    assert measured(noise)["grain"] == pytest.approx(2 / 3, abs=0.03)
    assert moving["grain"] < 0.5
    assert measured(noise)["edges"] > 0.8 > 0.2 > moving["edges"] > 0


def test_figures_tell_brightness_contrast_and_colour() -> None:
    grey, red = np.full((2, 16, 16, 3), 51, np.uint8), np.zeros((2, 16, 16, 3), np.uint8)
    red[..., 0] = 255
    halves = grey.copy()
    halves[:, :8] = 255
    halves[:, 8:] = 0
    assert measured(grey)["brightness"] == pytest.approx(0.2)
    assert measured(grey)["contrast"] == measured(grey)["colour"] == measured(grey)["edges"] == 0
    assert measured(red)["colour"] == 1
    assert measured(halves)["contrast"] == pytest.approx(0.5)


def test_figures_hardly_depend_on_the_size_of_the_frames() -> None:
    small = wandering_square("a", 10, 64)
    large = small.repeat(4, axis=1).repeat(4, axis=2)
    np.testing.assert_allclose(figures(large), figures(small), atol=1e-6)


def test_one_frame_is_a_clip_that_stands_still() -> None:
    assert measured(good(0)[:1])["stillness"] == 1
    assert np.isfinite(figures(good(0)[:1])).all()


# --- labels that do not fit the shards -------------------------------------------------------------------


@pytest.mark.usefixtures("unvalidated")
def test_names_that_the_shards_do_not_know_are_counted(shards: ShardSet, tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "labels.csv", LABELS | {"gone-1": "good", "gone-2": "bad"})
    with pytest.warns(UserWarning, match="2 of 26 keys are not in .* count for nothing, such as 'gone-1'"):
        about = train(shards, labels, tmp_path / "quality")
    assert about["labels"]["unknown"] == 2


def test_labels_of_other_shards_are_refused(shards: ShardSet, tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "labels.csv", {"good-1.mp4": "good", "bad-1.mp4": "bad"})
    with pytest.raises(UserError, match=r"none of its 2 keys .* found 'bad-1.mp4', expected .* 'good-0'"):
        train(shards, labels, tmp_path / "quality")


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (
            lambda name: name not in ("bad-1", "bad-5", "bad-9"),
            "found 9 bad clips of 9 sources",
        ),
        (lambda name: name.startswith("good"), "found 0 bad clips of 0 sources"),
        (lambda name: name.startswith("bad"), "found 0 good clips of 0 sources"),
    ],
)
def test_too_few_labels_are_told_with_counts(
    shards: ShardSet, tmp_path: Path, kept: Callable[[str], bool], message: str
) -> None:
    labels = write_labels(
        tmp_path / "labels.csv", {name: each for name, each in LABELS.items() if kept(name)}
    )
    with pytest.raises(
        UserError, match=f"{message} in the shards; expected at least 10 of at least 4 sources"
    ):
        train(shards, labels, tmp_path / "quality")
    assert not (tmp_path / "quality").exists()


def test_labels_of_too_few_sources_are_refused(tmp_path: Path) -> None:
    shards = write_clips(tmp_path / "shards", CLIPS, clips_per_source=6)
    with pytest.raises(UserError, match="found 12 good clips of 2 sources"):
        train(shards, write_labels(tmp_path / "labels.csv", LABELS), tmp_path / "quality")


@pytest.mark.usefixtures("unvalidated")
def test_a_clip_that_cannot_be_decoded_is_left_out(tmp_path: Path) -> None:
    shards = write_clips(tmp_path / "shards", CLIPS | {"good-4": b"no video at all"})
    with pytest.warns(UserWarning, match="clip good-4: .* left out"):
        about = train(shards, write_labels(tmp_path / "labels.csv", LABELS), tmp_path / "quality")
    assert about["data"]["unreadable"] == 1
    assert about["labels"]["good"]["clips"] == NUM_CLIPS - 1


# --- the folder ------------------------------------------------------------------------------------------


def test_a_folder_in_use_is_not_written_over(shards: ShardSet, folder: Path, tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "labels.csv", LABELS)
    before = (folder / "quality.json").read_bytes()
    with pytest.raises(UserError, match="holds a quality classifier; use another folder"):
        train(shards, labels, folder)
    with pytest.raises(UserError, match="is a file; expected a folder"):
        train(shards, labels, labels)
    assert (folder / "quality.json").read_bytes() == before


@pytest.mark.usefixtures("unvalidated")
def test_the_index_is_written_last(shards: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = write_labels(tmp_path / "labels.csv", LABELS)

    def full(path: Path, tree: Any) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(quality_training, "write_json", full)
        with pytest.raises(OSError, match="No space"):
            train(shards, labels, tmp_path / "quality")
    with pytest.raises(UserError, match="no finished quality classifier here"):
        Judge.load(tmp_path / "quality")
    train(shards, labels, tmp_path / "quality")
    assert sorted(path.name for path in (tmp_path / "quality").iterdir()) == [
        "model.safetensors",
        "quality.json",
    ]


def test_the_index_holds_no_path_of_this_machine(folder: Path) -> None:
    assert str(folder.parent) not in (folder / "quality.json").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree.update(format=9), "format 9, this version reads 1; train it again"),
        (lambda tree: tree.update(figures=["motion"]), "train it again"),
        (lambda tree: tree.pop("weights"), "not a whole classifier"),
        (lambda tree: tree["vision"].update(image_hw=[100000, 100000]), "not a whole classifier"),
        (lambda tree: tree.update(vision=[]), "not a whole classifier"),
        (lambda tree: tree["weights"].update(sha256="0"), "does not match its sha256"),
    ],
)
def test_a_folder_that_is_not_whole_is_told(
    folder: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Judge.load(copy_of(folder, tmp_path / "copy", change))


def test_missing_weights_are_told(folder: Path, tmp_path: Path) -> None:
    copy = copy_of(folder, tmp_path)
    (copy / "model.safetensors").unlink()
    with pytest.raises(UserError, match="missing; copy the whole folder again"):
        Judge.load(copy)
    with pytest.raises(UserError, match="no finished quality classifier"):
        Judge.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("test_resnet", "not the weights of a classifier on 'test_resnet'"),
        ("hf-hub:some/one", "timm knows no"),
    ],
)
def test_a_folder_cannot_make_timm_fetch_another_model(
    folder: Path, tmp_path: Path, name: str, message: str
) -> None:
    judge = Judge.load(copy_of(folder, tmp_path, lambda tree: tree["vision"].update(name=name)))
    assert judge.sha256 != Judge.load(folder).sha256
    with pytest.raises(UserError, match=message):
        judge.score(good(1))


# --- the image model -------------------------------------------------------------------------------------


def test_weights_of_a_local_file_are_used(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(3)
    whole = timm.create_model("test_resnet", pretrained=False)  # with its classifier, as published files are
    save_file(whole.state_dict(), tmp_path / "model.safetensors")
    vision = Vision.create("test_resnet", pretrained=True, weights=tmp_path / "model.safetensors")
    assert vision.config.pretrained
    for name, tensor in vision.tensors().items():
        assert torch.equal(tensor, whole.state_dict()[name])
    again = Vision.restore(vision.config, vision.tensors())
    assert np.array_equal(again(good(1)), vision(good(1)))


def test_weights_that_cannot_be_downloaded_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    def offline(*_: Any, pretrained_cfg_overlay: dict[str, str], **__: Any) -> None:
        assert pretrained_cfg_overlay["hf_hub_filename"].endswith(".safetensors"), "nothing is unpickled"
        raise FileNotFoundError("cannot find\nthe requested files")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        UserError, match=r"'resnet18' cannot be downloaded .*--weights.*huggingface.co/timm/resnet18"
    ) as e:
        Vision.create("resnet18", pretrained=True)
    assert "--no-pretrained" in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.pt", b"pickled", "not a .safetensors file"),
        ("none.safetensors", None, "no such file"),
        ("broken.safetensors", b"no tensors", "no weights of 'test_resnet'"),
    ],
)
def test_other_files_than_safetensors_are_not_opened(
    tmp_path: Path, file: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=message):
        Vision.create("test_resnet", pretrained=True, weights=tmp_path / file)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    save_file({"some.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="no weights of 'test_resnet'"):
        Vision.create("test_resnet", pretrained=True, weights=tmp_path / "other.safetensors")


def test_weights_for_a_random_projection_are_a_contradiction(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pretrained is false"):
        Vision.create(TINY, pretrained=False, weights=tmp_path / "model.safetensors")


def test_an_unknown_image_model_is_told_with_its_likes() -> None:
    with pytest.raises(UserError, match=r"timm knows no 'resnet_huge'; it knows .*resnet"):
        Vision.create("resnet_huge", pretrained=False)


def test_a_model_of_any_size_is_shown_small_images() -> None:
    def size(name: str) -> VisionConfig:
        return Vision.create(name, pretrained=False).config

    assert size("test_resnet").image_hw == (128, 128)
    assert size("test_vit").image_hw == (160, 160), "a transformer takes its own size alone"


def test_a_random_projection_is_that_of_its_seed() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (Vision.create(TINY, pretrained=False, seed=seed)(good(1)) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)
