"""The pictures of a run: what goes in, what comes back, and what each code does.

panels/strip-*.png       the same frames as recorded, as the tokenizer returns them, as the LAM foretells them
panels/code-*.webp       one film per code, all from the same start frame, the code held down
panels/codes.webp        the same films as one animation
panels/example-*.webp    held-out clips: what followed; the world with the clip's codes; with random codes
panels/gallery.json      what is there; written last
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from genie_lite.data.loading.clip import to_pixels
from genie_lite.data.loading.loader import Clip
from genie_lite.errors import UserError
from genie_lite.evals.drive import drive
from genie_lite.evals.pictures import animation_webp, sheet_webp, strip_png, tile
from genie_lite.files import read_json, write_bytes, write_json
from genie_lite.models.lam import LatentActionModel
from genie_lite.models.tokenizer import VideoTokenizer
from genie_lite.models.world import World

FORMAT = 1
MOST_FILMS = 16  # codes shown; of a larger alphabet the most frequent ones
STRIP_FRAMES = 8


@dataclass(frozen=True)
class Gallery:
    """Pictures of one run, uint8.

    strip: name to frames `t h w c`. films: code to film `t h w c`, frame 0 is the start they share.
    foretold_by: "world", or "lam" where there is no world. examples: per clip, name to film.
    rate_hz: of the films.
    """

    rate_hz: float
    strip: dict[str, np.ndarray]
    films: dict[int, np.ndarray]
    foretold_by: str
    examples: list[dict[str, np.ndarray]] = field(default_factory=list)


@torch.inference_mode()
def paint(
    tokenizer: VideoTokenizer,
    lam: LatentActionModel,
    world: World | None,
    clips: Sequence[Clip],
    *,
    rate_hz: float,
    prompt_frames: int = 1,
    num_frames: int = 15,
    num_examples: int = 3,
    seed: int = 0,
    codes: Sequence[Int[Tensor, "b k"]] | None = None,
) -> Gallery:
    """Draw a run's pictures from held-out clips, of different episodes, in which the most moves.

    Args:
        tokenizer: of the run.
        lam: of the run.
        world: of the run; without one the films come from the latent action model, which blurs sooner.
        clips: held-out, each of at least two frames.
        rate_hz: of the clips.
        prompt_frames: given frames that the films begin from.
        num_frames: foretold frames of a film, at most; an example is as long as its clip allows.
        num_examples: how many clips to continue.
        seed: of sampling and of the random codes.
        codes: of all transitions of each clip; inferred where not given. A world of true actions needs them.
    """
    inferred = [lam.encode(clip.frames).index for clip in clips] if codes is None else codes
    liveliest = _liveliest(clips, inferred, num_examples)
    frames, _ = liveliest[0]
    chosen = _most_frequent(inferred, lam.num_codes if world is None or codes is None else world.num_codes)
    prompt = frames[:, :prompt_frames]
    films = _films(lam, world, prompt, chosen, num_frames, seed)
    return Gallery(
        rate_hz=rate_hz,
        strip=_strip(tokenizer, lam, frames[:, :STRIP_FRAMES]),
        films={code: film for code, film in zip(chosen, films, strict=True)},
        foretold_by="lam" if world is None else "world",
        examples=[]
        if world is None
        else [_example(world, *each, prompt_frames, num_frames, seed) for each in liveliest],
    )


def write_gallery(gallery: Gallery, folder: Path) -> None:
    """Write all pictures, then the list of them."""
    strip = {
        name: {"file": _put(folder / f"strip-{name}.png", strip_png(frames)), "frames": len(frames)}
        for name, frames in gallery.strip.items()
    }
    films = {str(code): _put_film(folder / f"code-{code}.webp", film) for code, film in gallery.films.items()}
    examples = [
        {name: _put_film(folder / f"example-{number}-{name}.webp", film) for name, film in example.items()}
        for number, example in enumerate(gallery.examples)
    ]
    together = tile(np.stack(list(gallery.films.values())), columns=min(4, len(gallery.films)))
    listed = {
        "format": FORMAT,
        "rate_hz": gallery.rate_hz,
        "foretold_by": gallery.foretold_by,
        "frame_hw": list(next(iter(gallery.films.values())).shape[1:3]),
        "strip": strip,
        "films": films,
        "together": _put(folder / "codes.webp", animation_webp(together, gallery.rate_hz, zoom=2)),
        "examples": examples,
    }
    write_json(folder / "gallery.json", listed)


def read_gallery(folder: Path) -> dict[str, Any] | None:
    """The list that `write_gallery` left, None where there is none.

    Raises:
        UserError: another format, or damaged.
    """
    path = folder / "gallery.json"
    if not path.is_file():
        return None
    listed = read_json(path, "a list of pictures", "delete evaluate.json and evaluate the run again")
    if listed.get("format") != FORMAT:
        raise UserError(
            f"{path}: format {listed.get('format')}, this version reads {FORMAT}; evaluate the run again"
        )
    return listed


def _put_film(path: Path, film: np.ndarray) -> dict[str, Any]:
    return {"file": _put(path, sheet_webp(film)), "frames": len(film)}


def _put(path: Path, data: bytes) -> str:
    write_bytes(path, data)
    return path.name


def _liveliest(
    clips: Sequence[Clip], codes: Sequence[Int[Tensor, "b k"]], num: int
) -> list[tuple[Float[Tensor, "1 t c h w"], Int[Tensor, "1 k"]]]:
    """The clip with the most motion of each episode and its codes, at most `num`, the liveliest first."""
    best: dict[str, tuple[float, tuple[Tensor, Tensor]]] = {}
    for clip, index in zip(clips, codes, strict=True):
        motion = (clip.frames[:, 1:] - clip.frames[:, :-1]).abs().mean(dim=(1, 2, 3, 4))
        for row, name in enumerate(clip.source):
            if name not in best or float(motion[row]) > best[name][0]:
                best[name] = (float(motion[row]), (clip.frames[row : row + 1], index[row : row + 1]))
    return [found for _, found in sorted(best.values(), key=lambda each: -each[0])[:num]]


def _most_frequent(codes: Sequence[Int[Tensor, "b k"]], num_codes: int) -> list[int]:
    count = torch.bincount(torch.cat([each.flatten() for each in codes]), minlength=num_codes)
    return sorted(count.argsort(descending=True, stable=True)[:MOST_FILMS].tolist())


def _films(
    lam: LatentActionModel,
    world: World | None,
    prompt: Tensor,
    codes: Sequence[int],
    num_frames: int,
    seed: int,
) -> np.ndarray:
    """Each code held down from the same prompt: uint8 `codes t h w c`, first the prompt's last frame."""
    # One stream at a time: sampling noise belongs to a stream's place in the batch, and must not differ.
    films = []
    for code in codes:
        held = torch.full((1, num_frames), code, device=prompt.device)
        foretold = (
            drive(lam, prompt, lam.code_vectors()[held])
            if world is None
            else world.rollout(prompt, held, seed)
        )
        films.append(torch.cat([prompt[:, -1:], foretold], dim=1)[0])
    return to_pixels(torch.stack(films))


def _strip(tokenizer: VideoTokenizer, lam: LatentActionModel, frames: Tensor) -> dict[str, np.ndarray]:
    foretold = torch.cat([frames[:, :1], lam(frames).prediction], dim=1)  # the first frame has no past
    pictures = {"recorded": frames, "tokenizer": tokenizer(frames).reconstruction, "lam": foretold}
    return {name: to_pixels(picture[0]) for name, picture in pictures.items()}


def _example(
    world: World, frames: Tensor, codes: Tensor, prompt_frames: int, num_frames: int, seed: int
) -> dict[str, np.ndarray]:
    frames = frames[:, : prompt_frames + num_frames]
    prompt = frames[:, :prompt_frames]
    inferred = codes[:, prompt_frames - 1 : frames.shape[1] - 1]
    generator = torch.Generator().manual_seed(seed)
    other = torch.randint(world.num_codes, inferred.shape, generator=generator).to(inferred.device)
    start = prompt[:, -1:]
    pictures = {
        "recorded": frames[:, prompt_frames - 1 :],
        "inferred": torch.cat([start, world.rollout(prompt, inferred, seed)], dim=1),
        "random": torch.cat([start, world.rollout(prompt, other, seed)], dim=1),
    }
    return {name: to_pixels(picture[0]) for name, picture in pictures.items()}
