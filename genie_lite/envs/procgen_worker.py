"""The process that holds the Procgen engine; it lives in the engine's own Python and imports only numpy and procgen.

    request, reply:  uint32 header length · uint64 payload length · header (JSON) · payload (raw arrays)
    header:          {"fields": {...}, "arrays": [[name, dtype, shape], ...]}

Requests come on standard input, replies go to what was standard output. A failure is a traceback on standard
error and a non-zero exit; an end of the input is the end. Nothing is pickled.

What the engine's saved states hold is known here and nowhere else: the range that level seeds are drawn from
(patched to start a chosen level) and the grid of a maze.
"""

import json
import os
import struct
import sys

import numpy as np

SIZES = struct.Struct("<IQ")

RESET = -1  # the engine's own action: end the episode and start a level of the range
MARK, MARK_SPAN = 1_234_567_890, 7  # a level range that no state holds by chance
MAX_STATE_BYTES = 2**20  # the engine's own bound
GRID_SIDE = 31
GRID_HEADER = np.array([GRID_SIDE, GRID_SIDE, GRID_SIDE**2], dtype="<i4").tobytes()
WALL, SPACE, GOAL = 51, 100, 2
# Left, right, down, up; the engine's rows count upwards.
MOVES = {1: (0, -1), 7: (0, 1), 3: (-1, 0), 5: (1, 0)}

PLAYING, ENDED, SOLVED = 0, 1, 2
STATE = struct.Struct("<Bbb")  # how it stands, row and column of the player (-1 without a grid)


def write_message(stream, fields, arrays):
    """Send plain fields and named arrays."""
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    about = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
    header = json.dumps({"fields": fields, "arrays": about}).encode()
    stream.write(SIZES.pack(len(header), sum(array.nbytes for array in arrays.values())))
    stream.write(header)
    for array in arrays.values():
        stream.write(array.tobytes())
    stream.flush()


def read_message(stream):
    """Receive (fields, arrays); EOFError where the other side has gone."""
    header_size, payload_size = SIZES.unpack(_read(stream, SIZES.size))
    header = json.loads(_read(stream, header_size))
    payload = _read(stream, payload_size)
    arrays, start = {}, 0
    for name, dtype, shape in header["arrays"]:
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(payload, dtype, count, start).reshape(shape)
        start += arrays[name].nbytes
    return header["fields"], arrays


def pack(blobs):
    """Byte strings as two arrays."""
    sizes = np.array([len(blob) for blob in blobs], dtype="<i8")
    return {"sizes": sizes, "bytes": np.frombuffer(b"".join(blobs), np.uint8)}


def unpack(arrays):
    """The byte strings of `pack`."""
    ends = np.cumsum(arrays["sizes"])
    whole = arrays["bytes"].tobytes()
    return [
        whole[end - size : end] for end, size in zip(ends.tolist(), arrays["sizes"].tolist(), strict=True)
    ]


def _read(stream, size):
    data = stream.read(size)
    if len(data) != size:
        raise EOFError
    return data


class Engine:
    """Streams of one game, each at a level of its own.

    The engine goes on to a next level by itself when an episode ends, and shows only that. So a stream that
    has ended is frozen here, at its last frame. In a maze the last frame can be had all the same: shortly
    before the end a second engine plays the same action in the same maze without its goal.
    """

    def __init__(self, num_envs, game, mode, has_grid):
        self._game, self._mode, self._has_grid = game, mode, has_grid
        self._env = self._open(num_envs, MARK, MARK_SPAN)
        self._mirror = self._open(1, MARK, MARK_SPAN)
        self._templates = self._env.callmethod("get_state")
        self._seed_at = self._templates[0].index(np.array([MARK, MARK + MARK_SPAN], "<i4").tobytes())
        self._buffer = self._env._ffi.new("char[]", MAX_STATE_BYTES)
        self._status = np.full(num_envs, ENDED, np.uint8)
        self._cell = np.full((num_envs, 2), -1)
        self._goal = np.full((num_envs, 2), -1)
        self._free = np.zeros((num_envs, GRID_SIDE, GRID_SIDE), bool)
        self._frames = self._observe()

    def reset(self, fields, arrays):
        """Start the given level in every stream, exactly that level."""
        levels = arrays["levels"]
        start, end = self._seed_at, self._seed_at + 8
        ranges = [np.array([level, level + 1], "<i4").tobytes() for level in levels]
        states = [old[:start] + new + old[end:] for old, new in zip(self._templates, ranges, strict=True)]
        self._env.callmethod("set_state", states)
        self._env.act(np.full(len(levels), RESET, np.int32))
        self._frames = self._observe()
        found = [info["level_seed"] for info in self._env.get_info()]
        assert found == levels.tolist(), f"asked for levels {levels.tolist()}, the engine started {found}"
        self._status[:] = PLAYING
        if self._has_grid:
            for slot, state in enumerate(self._env.callmethod("get_state")):
                self._read_grid(slot, state)
                self._cell[slot] = np.argwhere(self._free[slot]).min(axis=0)
        return {}, {"frames": self._frames}

    def step(self, fields, arrays):
        """Take one action in every stream that has not ended."""
        reward = self._act(arrays["action"])
        return {}, {"frames": self._frames, "reward": reward, "status": self._status}

    def rollout(self, fields, arrays):
        """Take actions `t b` in a row, until all have ended or `enough` are solved; no frames."""
        num_actions = np.zeros(len(self._status), np.int64)
        for action in arrays["action"]:
            num_actions += self._status == PLAYING
            self._act(action)
            if (self._status != PLAYING).all() or (self._status == SOLVED).sum() >= fields["enough"]:
                break
        return {}, {"num_actions": num_actions, "status": self._status}

    def save(self, fields, arrays):
        """The state of every stream: of one that has ended, its last frame is all there is."""
        states = self._env.callmethod("get_state")
        return {}, pack(
            [
                STATE.pack(status, *cell) + (state if status == PLAYING else frame.tobytes())
                for status, cell, state, frame in zip(
                    self._status, self._cell, states, self._frames, strict=True
                )
            ]
        )

    def restore(self, fields, arrays):
        """Set every stream to a saved state."""
        inner = []
        frames = {}
        for slot, blob in enumerate(unpack(arrays)):
            status, row, column = STATE.unpack_from(blob)
            self._status[slot], self._cell[slot] = status, (row, column)
            body = blob[STATE.size :]
            if status == PLAYING and self._has_grid:
                self._read_grid(slot, body)
            if status != PLAYING:
                frames[slot] = np.frombuffer(body, np.uint8).reshape(self._frames.shape[1:])
            inner.append(body if status == PLAYING else self._templates[slot])
        self._env.callmethod("set_state", inner)
        self._frames = self._observe()
        for slot, frame in frames.items():
            self._frames[slot] = frame
        return {}, {"frames": self._frames}

    def layouts(self, fields, arrays):
        """The maze of every stream, the player and the goal."""
        assert self._has_grid, f"{self._game} has no grid"
        return {}, {"free": self._free, "cell": self._cell, "goal": self._goal}

    def _open(self, num, start_level, num_levels):
        from procgen import ProcgenGym3Env  # pyright: ignore[reportAttributeAccessIssue]

        return ProcgenGym3Env(
            num=num,
            env_name=self._game,
            start_level=start_level,
            num_levels=num_levels,
            distribution_mode=self._mode,
            use_backgrounds=False,
            restrict_themes=True,
            rand_seed=0,
            num_threads=4,
        )

    def _act(self, action):
        """Act, freeze what ends, return the rewards."""
        action = action.astype(np.int32)
        playing = self._status == PLAYING
        ends = self._ends(action, playing) if self._has_grid else {}
        self._env.act(action)
        reward, observed, first = self._env.observe()
        ended = playing & first
        still = playing & ~first
        self._frames[still] = observed["rgb"][still]
        for slot, frame in ends.items():
            self._frames[slot] = frame
        if ended.any():
            info = self._env.get_info()
            for slot in np.flatnonzero(ended):
                self._status[slot] = SOLVED if info[slot]["prev_level_complete"] else ENDED
                assert (slot in ends) == (self._has_grid and self._status[slot] == SOLVED), (
                    f"lost track in {slot}"
                )
        return np.where(playing, reward, 0).astype(np.float32)

    def _ends(self, action, playing):
        """Walk along in the grids; the last frame of every stream that is about to reach its goal."""
        last_frames = {}
        for slot in np.flatnonzero(playing):
            cell = self._cell[slot] + MOVES.get(int(action[slot]), (0, 0))
            if ((cell < 0) | (cell >= GRID_SIDE)).any() or not self._free[slot][tuple(cell)]:
                continue
            self._cell[slot] = cell
            if (cell == self._goal[slot]).all():
                last_frames[slot] = self._without_goal(self._state_of(slot), cell, action[slot])
        return last_frames

    def _state_of(self, slot):
        """One stream's state; `get_state` would copy all of them."""
        size = self._env.call_c_func("get_state", slot, self._buffer, len(self._buffer))
        return bytes(self._env._ffi.buffer(self._buffer, size))

    def _without_goal(self, state, goal, action):
        """The frame after an action that ends the episode, from a maze in which it does not."""
        at = state.index(GRID_HEADER) + len(GRID_HEADER) + 4 * (goal[0] * GRID_SIDE + goal[1])
        patched = state[:at] + np.array(SPACE, "<i4").tobytes() + state[at + 4 :]
        self._mirror.callmethod("set_state", [patched])
        self._mirror.act(np.array([action], np.int32))
        return self._mirror.observe()[1]["rgb"][0]

    def _read_grid(self, slot, state):
        at = state.index(GRID_HEADER) + len(GRID_HEADER)
        grid = np.frombuffer(state, "<i4", GRID_SIDE**2, at).reshape(GRID_SIDE, GRID_SIDE)
        self._free[slot] = grid != WALL
        self._goal[slot] = np.argwhere(grid == GOAL)[0]

    def _observe(self):
        return self._env.observe()[1]["rgb"].copy()


def serve(requests, replies):
    """Answer until the requests end; the first one says which game."""
    options, _ = read_message(requests)
    engine = Engine(**options)
    write_message(replies, {"ready": True}, {})
    while True:
        try:
            fields, arrays = read_message(requests)
        except EOFError:
            return
        write_message(replies, *getattr(engine, fields["op"])(fields, arrays))


def main():
    """Serve on the process's own streams; the engine's chatter on standard output goes to standard error."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, replies)


if __name__ == "__main__":
    main()
