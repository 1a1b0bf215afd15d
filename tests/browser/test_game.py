"""The page's side of the wire, message by message: what belongs to which game, and how much is asked for at once."""

from tests.browser.conftest import Join

SCRIPT = "static/game.js"  # visited by itself, where no game is begun and no place is taken
BEGIN = """
  const { Game } = await import("/static/game.js");
  const game = new Game();
  const sent = [];
  Object.defineProperty(game.wire, "isOpen", { get: () => true });
  game.wire.send = (message) => sent.push(message);
  const { text, frame } = game.wire.on;
  const shown = (number, type = "frame") => frame({
    type, branch: 0, frame: number, code: 1, action: null, seq: null, h: 1, w: 1, pixels: new Uint8Array(3), twin: null,
  });
  const start = { kind: "gallery", index: 0 };
  game.open(start, 0);
  text({ type: "session", token: "old", resumed: false });
  [0, 1, 2, 3, 4, 5].forEach((number) => shown(number));
"""


def test_what_comes_late_is_not_of_the_new_game(codes: str, join: Join) -> None:
    found = join(codes, SCRIPT, wait=False).page.evaluate(
        f"""async () => {{ {BEGIN}
          game.open(start, 1, {{ path: {{ terms: "code", values: [1, 2] }}, twin: true }});
          shown(6);
          const branches = [{{ id: 0, codes: [1, 1], actions: [] }}];
          text({{ type: "tree", branches, cursor: {{ branch: 0, frame: 2 }}, seed: 0, start }});
          text({{ type: "refused", reason: "no room", seq: 1, of: "act" }});
          text({{ type: "twin", on: false }});
          const {{ state, cursor, frames, tree, seed, twin, path }} = game;
          const late = [state, cursor.frame, frames.kept.size, tree.longest, seed, twin, path !== null];
          text({{ type: "session", token: "new", resumed: false }});
          const states = [0, 1, 2].map((number) => {{ shown(number); return game.state; }});
          return {{ late, states, twins: sent.filter(({{ type }}) => type === "twin").length }};
        }}"""
    )
    assert found["late"] == ["loading", 0, 0, 0, 1, True, True]
    assert found["states"] == ["replaying", "replaying", "playing"]
    assert found["twins"] == 1  # asked for when the link has been played


def test_a_branch_grows_where_the_server_says(codes: str, join: Join) -> None:
    """From a frame of branch 1 that is its parent's, so that the new branch is the parent's, too."""
    found = join(codes, SCRIPT, wait=False).page.evaluate(
        f"""async () => {{ {BEGIN}
          const grown = (branch, number, code) => frame({{
            type: "frame", branch, frame: number, code, action: null, seq: null, h: 1, w: 1,
            pixels: new Uint8Array(3), twin: null,
          }});
          text({{ type: "branch", id: 1, parent: 0, at: 3 }});
          grown(1, 4, 2);
          grown(1, 5, 3);
          game.seek(1, 1);
          grown(1, 1, 1);
          text({{ type: "branch", id: 2, parent: 0, at: 1 }});
          grown(2, 2, 0);
          return {{
            branches: [...game.tree.branches.values()].map(({{ id, parent, at, codes }}) => [id, parent, at, codes]),
            cursor: game.cursor,
            path: game.steps().map(({{ code }}) => code),
          }};
        }}"""
    )
    assert found["branches"] == [[0, None, 0, [1] * 5], [1, 0, 3, [2, 3]], [2, 0, 1, [0]]]
    assert found["cursor"] == {"branch": 2, "frame": 2}
    assert found["path"] == [1, 0]


def test_a_start_that_is_refused_is_told(codes: str, join: Join) -> None:
    told = join(codes, SCRIPT, wait=False).page.evaluate(
        f"""async () => {{ {BEGIN}
          let told = null;
          game.addEventListener("refused", ({{ detail }}) => (told = detail));
          game.open(start, 1);
          text({{ type: "refused", reason: "no such start", seq: null, of: "open" }});
          return told;
        }}"""
    )
    assert told == {"reason": "no such start", "of": "open"}


def test_few_looks_are_on_their_way_at_once(codes: str, join: Join) -> None:
    counts = join(codes, SCRIPT, wait=False).page.evaluate(
        f"""async () => {{ {BEGIN}
          game.frames.clear();
          const looks = () => sent.filter(({{ type }}) => type === "look");
          const want = () => {{ [1, 2, 3, 4, 5].forEach((number) => game.look(0, number)); return looks().length; }};
          const counts = [want()];
          shown(looks()[0].frame, "look");
          counts.push(want());
          text({{ type: "refused", reason: "no such frame", seq: looks()[1].seq, of: "look" }});
          counts.push(want());
          return counts;
        }}"""
    )
    assert counts == [2, 3, 4]


def test_whatever_comes_is_a_sign_of_life(codes: str, join: Join) -> None:
    pinged = join(codes, SCRIPT, wait=False).page.evaluate(
        """async () => {
          const { Wire } = await import("/static/wire.js");
          const wire = new Wire({ connected() {}, text() {}, frame() {}, lost() {} });
          wire.connect();
          wire.pinged = 7;
          wire.socket.onmessage({ data: '{"type": "names", "names": {}}' });
          return wire.pinged;
        }"""
    )
    assert pinged == 0
