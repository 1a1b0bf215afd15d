"""Readers of LeRobot's layouts that share nothing with ours: each goes the way of the code that it stands for.

`V3` follows LeRobot 0.4.4 (datasets/lerobot_dataset.py and utils.py), `Groot` NVIDIA's GR00T loaders
(gr00t/data/dataset.py for statistics and cameras, lerobot_episode_loader.py for rows and videos).
"""

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd

COUNTERS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
DTYPES = {"float32": np.float32, "int64": np.int64, "bool": np.bool_}


def frames_of(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """All pictures of a video and their times."""
    with av.open(str(path)) as container:
        images = list(container.decode(video=0))
    return np.stack([image.to_ndarray(format="rgb24") for image in images]), np.array(
        [i.time for i in images]
    )


class V3:
    """A dataset as LeRobot opens it, with its action chunks."""

    def __init__(self, root: Path, action_chunk: int = 1) -> None:
        self.root, self.action_chunk = root, action_chunk
        self.info = json.loads((root / "meta/info.json").read_text())
        assert self.info["codebase_version"] == "v3.0"
        assert type(self.info["fps"]) is int
        self.features = self.info["features"]
        self.stats = json.loads((root / "meta/stats.json").read_text())
        self.tasks: Any = pd.read_parquet(root / "meta/tasks.parquet")
        paths = sorted((root / "meta/episodes").glob("*/*.parquet"))
        self.episodes: list[dict[str, Any]] = pd.concat([pd.read_parquet(path) for path in paths]).to_dict(
            "records"
        )
        tables = [pd.read_parquet(path) for path in sorted((root / "data").glob("*/*.parquet"))]
        self.rows: Any = pd.concat(tables).reset_index(drop=True)
        self._check_columns()

    def _check_columns(self) -> None:
        """`Dataset.from_parquet(paths, features=...)` refuses columns that are not in info.json, and the reverse."""
        wanted = {name: spec for name, spec in self.features.items() if spec["dtype"] != "video"}
        assert set(self.rows.columns) == set(wanted)
        for name, spec in wanted.items():
            assert "/" not in name
            cell = self.rows[name].iloc[0]
            if spec["shape"] == [1]:
                assert np.ndim(cell) == 0, f"{name}: one component is a scalar"
            else:
                assert list(np.shape(cell)) == spec["shape"], name
            assert np.asarray(cell).dtype == DTYPES[spec["dtype"]], name

    @property
    def cameras(self) -> list[str]:
        return [name for name, spec in self.features.items() if spec["dtype"] == "video"]

    def policy_features(self) -> dict[str, str]:
        """What a policy takes each feature for; others it does not see."""
        kinds = {}
        for name, spec in self.features.items():
            if spec["dtype"] in ("image", "video"):
                kinds[name] = "VISUAL"
            elif name.startswith("observation"):
                kinds[name] = "STATE"
            elif name.startswith("action"):
                kinds[name] = "ACTION"
        return kinds

    def __len__(self) -> int:
        assert len(self.rows) == self.info["total_frames"]
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = dict(self.rows.iloc[index])
        episode = self.episodes[item["episode_index"]]
        assert episode["episode_index"] == item["episode_index"]
        item |= self._chunk(item["index"], episode)
        for camera in self.cameras:
            item[camera] = self._picture(camera, episode, float(item["timestamp"]))
        item["task"] = self.tasks.iloc[item["task_index"]].name
        return item

    def _chunk(self, index: int, episode: dict[str, Any]) -> dict[str, Any]:
        """Rows of the next actions; those beyond the episode repeat its last and are padding."""
        begin, end = episode["dataset_from_index"], episode["dataset_to_index"]
        wanted = [index + delta for delta in range(self.action_chunk)]
        rows = [max(begin, min(end - 1, each)) for each in wanted]
        return {
            "actions": np.stack([self.rows["action"].iloc[row] for row in rows])
            if "action" in self.rows
            else None,
            "action_is_pad": np.array([not begin <= each < end for each in wanted]),
        }

    def _picture(self, camera: str, episode: dict[str, Any], timestamp: float) -> np.ndarray:
        where = {
            "video_key": camera,
            "chunk_index": episode[f"videos/{camera}/chunk_index"],
            "file_index": episode[f"videos/{camera}/file_index"],
        }
        pictures, times = frames_of(self.root / self.info["video_path"].format(**where))
        wanted = episode[f"videos/{camera}/from_timestamp"] + timestamp
        nearest = int(np.abs(times - wanted).argmin())
        assert abs(times[nearest] - wanted) < 1e-4, (times[nearest], wanted)
        return pictures[nearest]


class Groot:
    """A dataset of v2.1 as GR00T opens it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        read = {
            name: json.loads((root / f"meta/{name}.json").read_text())
            for name in ("info", "modality", "stats")
        }
        self.info, self.modality, self.stats = read["info"], read["modality"], read["stats"]
        self.episodes = self._lines("episodes")
        self.tasks = {line["task_index"]: line["task"] for line in self._lines("tasks")}
        for name, spec in self.info["features"].items():  # else it counts all rows by itself
            if "float" in spec["dtype"]:
                assert {"mean", "std", "min", "max", "q01", "q99"} <= self.stats[name].keys()

    def _lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.root / f"meta/{name}.jsonl").read_text().splitlines()]

    def statistics(self, modality: str, key: str) -> dict[str, list[float]]:
        """Every statistic that is there is cut by the same indices, so there must be none of another length."""
        spec = self.modality[modality][key]
        of = self.stats[
            spec.get("original_key") or {"state": "observation.state", "action": "action"}[modality]
        ]
        return {name: np.array(of[name])[np.arange(spec["start"], spec["end"])].tolist() for name in of}

    def camera(self, key: str) -> tuple[int, int, float]:
        """Width, height and frames per second, by the name of the last axis."""
        spec = self.info["features"][self.modality["video"][key]["original_key"]]
        height = spec["shape"][spec["names"].index("height")]
        width = spec["shape"][spec["names"].index("width")]
        about = spec["video_info"] if "channel" in spec["names"] else spec["info"]
        return width, height, about["video.fps"]

    def episode(self, position: int) -> dict[str, Any]:
        """Columns of one episode: state and action groups, the task of each row, the pictures of each camera."""
        told = self.episodes[position]
        where = {"episode_chunk": told["episode_index"] // self.info["chunks_size"]}
        where |= {"episode_index": told["episode_index"]}
        rows: Any = pd.read_parquet(self.root / self.info["data_path"].format(**where))
        columns: dict[str, Any] = {}
        for modality, column in (("state", "observation.state"), ("action", "action")):
            for key, spec in self.modality[modality].items():
                values = rows[spec.get("original_key", column)]
                columns[f"{modality}.{key}"] = np.stack([v[spec["start"] : spec["end"]] for v in values])
        for key, spec in self.modality["annotation"].items():
            columns[f"annotation.{key}"] = [self.tasks[i] for i in rows[spec["original_key"]]]
        for key, spec in self.modality["video"].items():
            path = self.info["video_path"].format(video_key=spec["original_key"], **where)
            columns[f"video.{key}"] = frames_of(self.root / path)[0]
            assert len(columns[f"video.{key}"]) == len(rows) == told["length"]
        return columns | {"rows": rows}
