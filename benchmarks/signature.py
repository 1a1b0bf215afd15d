"""How well signatures tell copies of a clip from other clips.

    python benchmarks/signature.py FOLDER... [--every 4]

Every video of the folders is cut into clips as an ingest does it. Different clips: all pairs of clips, and those
within each folder apart, for a folder may hold what one camera saw. Copies: every n-th video is encoded again in each
of several ways and cut again, and each clip is compared with that of the original which begins at the same time.
Prints the share of pairs within each distance.
"""

import argparse
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from genie_lite.data.cutting.segment import IngestConfig, Tally, segments
from genie_lite.data.cutting.signature import distances, to_bytes
from genie_lite.data.video.codec import SUFFIXES
from genie_lite.data.video.container import BadVideo
from genie_lite.data.video.place import Place

CONFIG = IngestConfig()
LIMITS = (4, 8, 10, 12, 14, 16, 20, 24)


@dataclass(frozen=True)
class Copy:
    """One way to encode a video again."""

    codec: str = "libx264"
    options: tuple[tuple[str, str], ...] = (("crf", "23"), ("preset", "veryfast"))
    scale: float = 1.0
    brighter: int = 0
    keep: float = 1.0  # share of the frames that are kept


COPIES = {
    "crf 35": Copy(options=(("crf", "35"), ("preset", "veryfast"))),
    "half size": Copy(scale=0.5),
    "brightness + 20": Copy(brighter=20),
    "VP9": Copy("libvpx-vp9", (("crf", "40"), ("b", "0"), ("deadline", "realtime"), ("cpu-used", "8"))),
    "MPEG-4": Copy("mpeg4", (("qscale", "8"),)),
    "2/3 of the rate": Copy(keep=2 / 3),
    "all of it": Copy(options=(("crf", "32"), ("preset", "veryfast")), scale=0.5, brighter=20, keep=2 / 3),
}


def clips_of(path: Path) -> list[tuple[float, np.ndarray]]:
    """Begin in seconds and signature of each clip."""
    found = segments(Place(path), CONFIG, Tally())
    try:
        return [(clip.times_s[0], to_bytes(clip.signature or "")) for clip in found]
    except BadVideo:
        return []


def copied(path: Path, copy: Copy, to: Path) -> Path:
    """The video, encoded again."""
    with av.open(str(path)) as source, av.open(str(to), "w") as target:
        track = source.streams.video[0]
        height, width = (int(side * copy.scale) // 2 * 2 for side in (track.height, track.width))
        stream = target.add_stream(
            copy.codec, rate=Fraction(track.average_rate or 25), options=dict(copy.options)
        )
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        kept = 0.0
        for frame in source.decode(track):
            kept += copy.keep
            if kept < 1:
                continue
            kept -= 1
            pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
            brighter = np.minimum(pixels.astype(int) + copy.brighter, 255).astype(np.uint8)
            image = av.VideoFrame.from_ndarray(brighter, format="rgb24")
            image.pts, image.time_base = round(frame.time * 1000), Fraction(1, 1000)
            target.mux(stream.encode(image))
        target.mux(stream.encode())
    return to


def pair_distances(signatures: list[np.ndarray]) -> np.ndarray:
    """Of every clip to all after it."""
    rows = [distances(one, np.stack(signatures[k + 1 :])) for k, one in enumerate(signatures[:-1])]
    return np.concatenate(rows) if rows else np.empty(0, int)


def copy_distances(videos: dict[Path, list[tuple[float, np.ndarray]]], copy: Copy) -> np.ndarray:
    """Of every clip of encoded-again videos to the clip of the original that begins at the same time."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for path, clips in videos.items():
            for begin_s, signature in clips_of(copied(path, copy, Path(folder) / "copy.mkv")):
                nearest = min(clips, key=lambda clip: abs(clip[0] - begin_s), default=None)
                if nearest is not None and abs(nearest[0] - begin_s) < 0.3:
                    found.append(int(distances(signature, nearest[1][None])[0]))
    return np.array(found)


def tell(name: str, found: np.ndarray, decimals: int) -> None:
    """One line of the table, in percent."""
    shares = " ".join(f"{100 * np.mean(found <= limit):8.{decimals}f}" for limit in LIMITS)
    print(f"{name:24}{len(found):8} {shares}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--every", type=int, default=4, help="encode every n-th video again")
    arguments = parser.parse_args()
    videos: dict[Path, list[tuple[float, np.ndarray]]] = {}
    print(f"{'percent within':24}{'pairs':>8} " + " ".join(f"{limit:8}" for limit in LIMITS))
    for folder in arguments.folders:
        paths = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)
        found = {path: clips_of(path) for path in paths}
        tell(
            f"different, {folder.name}",
            pair_distances([clip[1] for clips in found.values() for clip in clips]),
            3,
        )
        videos |= found
    tell("different, all", pair_distances([clip[1] for clips in videos.values() for clip in clips]), 4)
    some = {
        path: clips for number, (path, clips) in enumerate(videos.items()) if number % arguments.every == 0
    }
    for name, copy in COPIES.items():
        tell(f"copies, {name}", copy_distances(some, copy), 1)


if __name__ == "__main__":
    main()
