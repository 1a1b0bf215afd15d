"""WebDataset sidecars, LAPA's lines and LARY's tables: read back as those who train on them do."""

import csv
import io
import json
import tarfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from webdataset.tariterators import group_by_keys, tar_file_iterator

from genie_lite.data.sources import lerobot
from genie_lite.errors import UserError
from genie_lite.files import sha256_of
from genie_lite.latents.formats.registry import write
from tests.footage import write_shards
from tests.latent_fixture import HORIZON, latents_of_shards, latents_of_videos
from tests.lerobot_fixture import square_frames, write_lerobot, write_lerobot_v3


def samples_of(path: Path) -> list[dict[str, Any]]:
    """By webdataset's own reader; `WebDataset` itself leaves the file open."""
    with path.open("rb") as file:
        members = (member | {"__url__": str(path)} for member in tar_file_iterator(cast(Any, file)))
        return list(group_by_keys(members))


def test_sidecars_are_read_in_step_with_the_video(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", ("train", "train", "test"))
    manifest = write("webdataset", latents_of_shards(tmp_path / "latents", shards), shards, tmp_path / "out")
    assert [entry["file"] for entry in manifest["shards"]] == [shard.file for shard in shards.shards]
    for shard, entry in zip(shards.shards, manifest["shards"], strict=True):
        path = tmp_path / "out" / shard.file
        assert entry["sha256"] == sha256_of(path)
        videos, labels = samples_of(tmp_path / "shards" / shard.file), samples_of(path)
        for video, label in zip(videos, labels, strict=True):
            assert video["__key__"] == label["__key__"]
            arrays = np.load(io.BytesIO(label["latent.npz"]), allow_pickle=False)
            about, meta = json.loads(label["latent.json"]), json.loads(video["json"])
            assert about["source"] == meta["source"]
            assert arrays["frame_index"].tolist() == meta["source_frames"]
            num = meta["num_frames"]
            assert arrays["valid"].tolist() == [True] * (num - HORIZON) + [False] * HORIZON
            assert arrays["embedding"][: num - HORIZON, 0].tolist() == list(range(num - HORIZON))
            assert arrays["tokens"].shape == (num, 2)
            assert (arrays["code"][num - HORIZON :] == -1).all()
            assert {"timestamp_s", "dt_s", "recon_psnr_db", "copy_psnr_db", "horizon_frames"} <= set(arrays)
            assert "action" not in arrays


def test_sidecars_carry_known_actions(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", ("train",), lengths=(9,))
    folder = latents_of_shards(tmp_path / "latents", shards, action=np.arange(9))
    write("webdataset", folder, shards, tmp_path / "out")
    (label,) = samples_of(tmp_path / "out/train-000000.tar")
    assert np.load(io.BytesIO(label["latent.npz"]))["action"].tolist() == list(range(9))


def test_sidecars_want_the_same_shards(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", ("train",))
    others = write_shards(tmp_path / "others", ("test",))
    folder = latents_of_shards(tmp_path / "latents", others)
    with pytest.raises(UserError, match=r"no latents of .*train-000000\.tar as it is now.*extract again"):
        write("webdataset", folder, shards, tmp_path / "out")
    with pytest.raises(UserError, match="expected shards"):
        write("webdataset", folder, tmp_path / "videos", tmp_path / "out")


def test_a_sidecar_that_is_there_is_kept(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", ("train", "test"))
    folder = latents_of_shards(tmp_path / "latents", shards)
    write("webdataset", folder, shards, tmp_path / "whole")
    stop_after(1, "webdataset", folder, shards, tmp_path / "out")
    made = tmp_path / "out/train-000000.tar"
    before = made.stat().st_mtime_ns
    assert not json.loads((tmp_path / "out/manifest.json").read_text())["complete"]
    write("webdataset", folder, shards, tmp_path / "out")
    assert made.stat().st_mtime_ns == before
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    with tarfile.open(made) as tar:
        assert [name.partition(".")[2] for name in tar.getnames()] == ["latent.npz", "latent.json"] * 2


class Stopped(Exception):
    pass


def stop_after(num: int, *arguments: Any) -> None:
    """Begin an export, and stop it once `num` samples or episodes, or more, are done."""

    def progress(done: int, total: int) -> None:
        if done >= num:
            raise Stopped

    with pytest.raises(Stopped):
        write(*arguments, progress=progress)


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


class Lapa:
    """The steps of LAPA's DeltaVisionTextProcessor with `img_aug`, but for the two models: VQGAN and tokenizer."""

    def __init__(self, image_absolute_path: str, tokens_per_delta: int) -> None:
        self.root, self.tokens_per_delta = image_absolute_path, tokens_per_delta

    def __call__(self, line: str) -> tuple[list[Any], list[float]]:
        example = json.loads(line)
        buffer, loss = [], []
        for field in example["fields"].split(","):
            mask = 0.0 if field.startswith("[") else 1.0
            name = field.strip("[]")
            if "vision" in name:
                image = np.array(Image.open(self.root + example["image"])).astype(np.uint8)
                tokens = [image]
            elif "delta" in name:
                assert len(example[name]) == self.tokens_per_delta
                tokens = np.array([0, *example[name]]).astype(np.int32)[1:].tolist()
            else:
                tokens = [example[name]]
            buffer.extend(tokens)
            loss.extend([mask] * len(tokens))
        return buffer, loss


def test_lapa_reads_every_transition(tmp_path: Path) -> None:
    root = tmp_path / "robot"
    write_lerobot_v3(root, lengths=(12, 9))
    lengths = {each.source: len(each.action) for each in lerobot.read(root).episodes}
    manifest = write("lapa", latents_of_videos(tmp_path / "latents", lengths), root, tmp_path / "out")
    lines = (tmp_path / "out/lapa.jsonl").read_text().splitlines()
    assert len(lines) == manifest["lines"] == 12 + 9 - 2 * HORIZON
    read = Lapa(f"{tmp_path}/out/", manifest["n_tokens_per_delta"])
    (prompt, picture, *delta), loss = read(lines[10 + 3])
    assert prompt == (
        "<s> You are a helpful assistant. USER: What action should the robot take to `move the square` ASSISTANT:"
    )
    assert np.abs(picture.astype(int) - square_frames(1, 9)[3]).mean() < 8
    assert loss == [0, 0, 1, 1]
    assert manifest["delta_vocab_size"] == 4, "of the quantizer, whatever occurs here"
    assert all(0 <= token < 4 for token in delta)
    ids = [json.loads(line)["id"] for line in lines]
    assert ids[:2] == ["episode_000000/step_0", "episode_000000/step_1"]
    names = sorted(path.name for path in (tmp_path / "out/images/episode_000001").iterdir())
    numbers = sorted(int(name.split(".")[0][4:]) for name in names)
    assert numbers == list(range(9)), "as LAPA's quantizer sorts them: all frames, ends of transitions too"


def test_lapa_takes_shots(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", ("train",))
    folder = latents_of_shards(tmp_path / "latents", shards)
    stop_after(1, "lapa", folder, shards, tmp_path / "out")
    assert not (tmp_path / "out/lapa.jsonl").exists()
    write("lapa", folder, shards, tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out/lapa.jsonl").read_text().splitlines()]
    assert len(lines) == 9 + 7 - 2 * HORIZON
    assert all((tmp_path / "out" / line["image"]).is_file() for line in lines)
    assert not list((tmp_path / "out").rglob(".*.tmp"))


class Lary:
    """The steps of LARY's ActionExpertDataset, with LARY_LA_DIR and DATA_DIR at the export's folder."""

    def __init__(self, path: Path, root: Path) -> None:
        self.root = root
        with path.open() as file:
            self.rows = list(csv.DictReader(file))
        first = self.rows[0]["la_path"]
        self.prefix = str(root / first)[: -len(first.rpartition("/")[2])]

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        row = self.rows[index]
        data = np.load(self.prefix + row["la_path"].rpartition("/")[2])
        assert data["tokens"].dtype == np.float32
        assert np.isfinite(data["tokens"]).all()
        return data["tokens"].flatten(), np.load(self.root / row["action"]).reshape(-1)


def test_lary_pairs_latents_with_action_chunks(tmp_path: Path) -> None:
    root = tmp_path / "my robot"
    actions = write_lerobot(root, num_episodes=2)
    lengths = dict.fromkeys(actions, 12)
    manifest = write("lary", latents_of_videos(tmp_path / "latents", lengths), root, tmp_path / "out")
    (table,) = manifest["tables"]
    assert table == {
        "file": f"train_la_my-robot_{HORIZON}_genie_lite.csv",
        "stride": 2,
        "rows": 20,
        "with_action": 20,
    }
    data = Lary(tmp_path / "out" / table["file"], tmp_path / "out")
    latent, action = data[10 + 4]
    assert latent[0] == 4
    source = list(actions)[1]
    np.testing.assert_array_equal(action, actions[source][4:6].ravel())
    assert data.rows[14]["tgt_img"] == f"{source}#frame=6"
    assert list(data.rows[0])[:3] == ["dataset", "type", "perspective"]


def test_lary_splits_and_unknown_actions(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", ("train", "test"), lengths=(9,))
    action = np.stack([np.arange(9), np.arange(9)], axis=1).astype(np.float32)
    action[4] = np.nan
    folder = latents_of_shards(tmp_path / "latents", shards, action=action)
    manifest = write("lary", folder, shards, tmp_path / "out")
    files = [table["file"].partition("_shards_")[0] for table in manifest["tables"]]
    assert files == ["train_la", "train_unlabelled", "val_la", "val_unlabelled"]
    assert [table["rows"] for table in manifest["tables"]] == [5, 2] * 2, "7 transitions, 2 touch frame 4"
    assert [table["with_action"] for table in manifest["tables"]] == [5, 0] * 2
    data = Lary(tmp_path / "out" / manifest["tables"][2]["file"], tmp_path / "out")
    assert all(row["action"] for row in data.rows), "LARY opens the file of every row"
    latent, actions = data[3]
    assert latent[0] == 5
    np.testing.assert_array_equal(actions, [5, 5, 6, 6])
    others = Lary(tmp_path / "out" / manifest["tables"][3]["file"], tmp_path / "out")
    assert [np.load(tmp_path / "out" / row["la_path"])["tokens"][0, 0] for row in others.rows] == [3, 4]


def test_lary_without_any_action_is_warned_of_each_time(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", ("train",))
    folder = latents_of_shards(tmp_path / "latents", shards)
    with pytest.warns(UserWarning, match="no transition has a known action"):
        manifest = write("lary", folder, shards, tmp_path / "out", title="My Holiday.2")
    with pytest.warns(UserWarning, match="no transition has a known action"):
        assert write("lary", folder, shards, tmp_path / "out", title="My Holiday.2") == manifest
    assert [table["file"] for table in manifest["tables"]] == [
        f"train_unlabelled_my-holiday-2_{HORIZON}_genie_lite.csv"
    ]
    assert manifest["source"] == "My Holiday.2"


@pytest.mark.parametrize("name", ["lapa", "lary"])
def test_an_episode_without_a_latent_is_told(name: str, tmp_path: Path) -> None:
    root = tmp_path / "robot"
    sources = list(write_lerobot(root, num_episodes=2))
    folder = latents_of_videos(tmp_path / "latents", {sources[0]: 12, sources[1]: HORIZON})
    with pytest.warns(UserWarning, match="left out"):
        manifest = write(name, folder, root, tmp_path / "out")
    assert manifest["left_out"] == [{"episode": "episode_000001", "reason": "no valid latent action"}]


@pytest.mark.parametrize("name", ["webdataset", "lapa", "lary"])
def test_only_lerobot_wants_whole_frames_per_second(name: str, tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", ("train",), lengths=(9,))
    index = json.loads((tmp_path / "shards/shards.json").read_text())
    index["config"]["rate_hz"] = 7.5
    (tmp_path / "shards/shards.json").write_text(json.dumps(index))
    action = np.zeros((9, 2), np.float32)
    folder = latents_of_shards(tmp_path / "latents", shards, action=action)
    write(name, folder, type(shards).open(tmp_path / "shards"), tmp_path / "out")
