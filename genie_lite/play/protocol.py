"""What server and page say to each other.

Over HTTP
    GET  /api/about                                  what there is to play, and the limits
    GET  /api/starts/{i}.png, /api/previews/{code}.webp
    POST /api/starts                                 body: an image or a short video; answers {"id", "label"}
    GET  /api/uploads/{id}.png
    GET  /api/sessions/{token}/film.mp4?branch=B     the whole branch, from frame 0 on
    GET  /api/sessions/{token}/replay?branch=B       for `genie-lite replay`
    GET  /api/health
Errors are {"error": "one line"}.

Over the socket /ws, from the page: JSON text, one message each, see the classes below. They are answered one after the
other, in their order, but for four things:
    a ping is answered as it is read, whatever waits
    a seek takes the place of a seek right before it that still waits, and that one is never answered
    a message that finds 16 others waiting is refused
    while the actions of an `open` are played, looks and names are answered between two frames; any other message that
    waits ends the playing, and is answered next
A page keeps no more than two acts and two looks unanswered, which is far from that. Whoever reads nothing for 10 s is
taken for gone; the game stays, to be resumed.

To the page, text:
    {"type": "session", "token", "resumed"}                        first answer to open and resume
    {"type": "tree", "branches": [...], "cursor", "seed", "start"} after these
    {"type": "branch", "id", "parent", "at"}                       before the first frame of a new branch
    {"type": "names", "names": {"0": "left"}}                      after open and resume, and when one has changed
    {"type": "twin", "on"}                                         when it was turned on or off, or has ended; on resume
    {"type": "refused", "reason", "seq", "of"}                     of: the type of the message, null if unknown
    {"type": "busy", "reason"}                                     then closed with 1013
    {"type": "pong", "seq"}
and binary: 4 bytes little-endian length, a JSON header, then h * w * 3 bytes RGB, and as many of the real engine:
    {"type": "frame" | "look", "branch", "frame", "action", "code", "seq", "h", "w", "ms", "twin", "twin_done"}

Frames are numbered by the codes that led to them: frame 0 is the last of those that the game began from. A branch
{"id", "parent", "at", "frames", "codes", "actions"} has its parent's frames up to `at` and its own from at + 1 to
`frames`; row i of its codes led to its frame at + 1 + i.

Closed with 1008 after too many messages that are none, 1009 after one that is too long, 1012 when the server ends,
1013 when there are as many games, or pages, as may be, 4408 when a game was given up because nothing happened in it, or
none was begun for as long, and 4409 when it was resumed elsewhere.
"""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from jaxtyping import UInt8
from numpy import ndarray
from pydantic import Field, TypeAdapter, ValidationError

from genie_lite.config import Config
from genie_lite.errors import UserError
from genie_lite.play.tree import Action, Moment

BROKEN, FULL, IDLE, ELSEWHERE = 1008, 1013, 4408, 4409
MOST_SEED = 2**53 - 1  # that a browser's numbers hold exactly
MOST_LENGTH = 100  # characters of an id, a token or a name
MOST_COMPONENTS = 256
SHOWN = 60  # characters of what was found
MOST_WAITING = 16  # messages of one page that wait for their answers
STALLED_S = 10.0  # whoever reads nothing for so long is gone

Seq = Annotated[int, Field(ge=0, le=MOST_SEED)]
Number = Annotated[int, Field(ge=0, le=MOST_SEED)]
Name = Annotated[str, Field(max_length=MOST_LENGTH)]
Move = Annotated[int, Field(ge=0, le=2**31)] | Annotated[list[float], Field(max_length=MOST_COMPONENTS)]
Terms = Literal["action", "code"]


class GalleryStart(Config):
    """One of the run's own."""

    kind: Literal["gallery"]
    index: Number


class UploadStart(Config):
    """What was posted before."""

    kind: Literal["upload"]
    id: Name


class LevelStart(Config):
    """How a level of the recorded game begins."""

    kind: Literal["level"]
    level: Number


class PixelStart(Config):
    """A picture that came with a link. png: in base64."""

    kind: Literal["pixels"]
    png: str


Start = Annotated[GalleryStart | UploadStart | LevelStart | PixelStart, Field(discriminator="kind")]


class Open(Config):
    """Begin a game; the one that this socket had is given up.

    actions: played at once, in the terms given; no more than a game keeps frames.
    """

    type: Literal["open"]
    start: Start
    seed: Number
    actions: list[Move] = []
    terms: Terms = "action"
    seq: Seq | None = None


class Resume(Config):
    """Go on with a game after the socket broke."""

    type: Literal["resume"]
    session: Name
    seq: Seq | None = None


class Act(Config):
    """One frame on from the cursor. action: null lets `driver` choose."""

    type: Literal["act"]
    action: Move | None = None
    terms: Terms = "action"
    driver: Name | None = None
    seq: Seq | None = None


class Seek(Config):
    """Move the cursor."""

    type: Literal["seek"]
    branch: Number
    frame: Number
    seq: Seq | None = None


class Look(Config):
    """Show a frame and leave the cursor."""

    type: Literal["look"]
    branch: Number
    frame: Number
    seq: Seq | None = None


class Beside(Config):
    """Show the real engine beside the world, or no more."""

    type: Literal["twin"]
    on: bool
    seq: Seq | None = None


class NameCode(Config):
    """Call a code something; everybody is told."""

    type: Literal["name"]
    code: Number
    name: Name
    seq: Seq | None = None


class Ping(Config):
    """Asks for a pong."""

    type: Literal["ping"]
    seq: Seq | None = None


Message = Open | Resume | Act | Seek | Look | Beside | NameCode | Ping
_MESSAGES: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="type")])


class BadMessage(UserError):
    """What came over a socket is no message. of: the type that it claims, if any."""

    def __init__(self, reason: str, of: str | None = None, seq: int | None = None) -> None:
        super().__init__(reason)
        self.of, self.seq = of, seq


def read_message(text: str | bytes) -> Message:
    """A message of the page's.

    Raises:
        BadMessage: no JSON, an unknown type or key, or a value out of its range, in one line.
    """
    try:
        return _MESSAGES.validate_json(text)
    except ValidationError as error:
        raise BadMessage(_explain(error), *_claimed(text)) from error


@dataclass(frozen=True)
class Shown:
    """A picture on its way to a page. ms: what it took the server; twin: the real engine's, and whether it is over."""

    kind: Literal["frame", "look"]
    moment: Moment
    code: int | None
    action: Action
    picture: UInt8[ndarray, "h w c"]
    ms: float
    twin: UInt8[ndarray, "h w c"] | None = None
    twin_done: bool = False

    def packed(self, seq: int | None) -> bytes:
        """As it goes over the wire."""
        height, width = self.picture.shape[:2]
        header = {
            "type": self.kind,
            "branch": self.moment.branch,
            "frame": self.moment.frame,
            "action": self.action,
            "code": self.code,
            "seq": seq,
            "h": height,
            "w": width,
            "ms": round(self.ms, 1),
            "twin": self.twin is not None,
            "twin_done": self.twin_done,
        }
        text = json.dumps(header).encode()
        pictures = [each.tobytes() for each in (self.picture, self.twin) if each is not None]
        return b"".join([len(text).to_bytes(4, "little"), text, *pictures])


def _claimed(text: str | bytes) -> tuple[str | None, int | None]:
    """The type and the number that a broken message names, so that the page knows which one it was."""
    try:
        tree: Any = json.loads(text)
        kind, seq = tree.get("type"), tree.get("seq")
    except (ValueError, AttributeError, RecursionError):
        return None, None
    is_number = type(seq) is int and 0 <= seq <= MOST_SEED
    return (kind if isinstance(kind, str) and len(kind) <= MOST_LENGTH else None), (
        seq if is_number else None
    )


def _explain(error: ValidationError) -> str:
    """The first thing that is wrong, as precisely as can be: what may be several things fails as each of them."""
    first = max(error.errors(include_url=False), key=lambda each: len(_path(each["loc"])))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        return f"message: no valid JSON ({first.get('ctx', {}).get('error', message)})"
    where = ".".join(_path(first["loc"])) or "message"
    found = repr(first.get("input"))
    return f"{where}: found {found if len(found) <= SHOWN else found[:SHOWN] + '…'}; {message}"


def _path(loc: tuple[int | str, ...]) -> list[str]:
    """Where it is, without the names of a union's branches, which are none of the message's."""
    return [str(part) for part in loc if isinstance(part, int) or part.isidentifier()]
