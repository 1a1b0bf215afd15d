/**
 * The pictures: the world, large; beside it the real game, or other branches at the same frame. Pixels stay square and
 * sharp: a picture is enlarged by a whole number wherever there is room.
 */

import { draw } from "./frames.js";

const CAPTION_PX = 26;
const GAP_PX = 18;
const WHOLE_FROM = 3; // below this many times, whole numbers would waste too much of a small screen

export class Screens {
  /** @param wells {well, screens, glow} elements. @param game what is shown. @param size [height, width] of frames. */
  constructor({ well, screens, glow }, game, [height, width]) {
    Object.assign(this, { well, screens, glow, game, height, width });
    this.pinned = [];
    this.scrubbed = null;
    this.shown = [];
    new ResizeObserver(() => this.#fit()).observe(well);
    game.addEventListener("state", () => game.state === "loading" && this.shown.forEach(forget));
    ["picture", "look", "tree", "twin"].forEach((type) => game.addEventListener(type, () => this.#soon()));
  }

  /** Show other branches beside the one that is played. */
  pin(branches) {
    this.pinned = branches;
    this.#soon();
  }

  /** Show a moment for as long as somebody drags; null: back to where the game stands. */
  scrub(moment) {
    this.scrubbed = moment;
    this.#soon();
  }

  /** Draw at most once per frame of the display. */
  #soon() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      this.#paint();
    });
  }

  #paint() {
    const wanted = this.#wanted();
    this.#arrange(wanted);
    wanted.forEach((each, place) => this.#show(this.shown[place], each));
  }

  /** What is to be seen: [{key, branch, frame, caption, picture, part, isOver, isHere}], the played branch among the others. */
  #wanted() {
    const { tree, cursor, twin } = this.game;
    const at = this.scrubbed ?? cursor;
    const picture = this.scrubbed ? this.game.look(at.branch, at.frame) : this.game.picture(at.branch, at.frame);
    const others = this.pinned.filter((id) => id !== at.branch && tree.branches.has(id));
    const name = twin && !others.length ? "The learnt world" : `Branch ${tree.letter(at.branch)}`;
    const caption = others.length || twin ? name : "";
    const played = { key: "world", branch: at.branch, frame: at.frame, caption, picture, part: "pixels", isHere: others.length > 0 };
    const real = twin ? [{ key: "twin-game", frame: at.frame, caption: this.#twinCaption(), picture, part: "twin", isOver: this.game.twinDone }] : [];
    // Branches keep their places, whichever is played.
    const branches = [played, ...others.map((id) => this.#beside(id, at.frame))].sort((a, b) => a.branch - b.branch);
    return [...branches, ...real];
  }

  #twinCaption() {
    return this.game.twinDone ? "The real game (over)" : "The real game";
  }

  #beside(id, frame) {
    const { tree } = this.game;
    const end = tree.end(id);
    const isOver = frame > end;
    const caption = `Branch ${tree.letter(id)}${isOver ? `, ends at ${end}` : ""}`;
    const last = Math.min(frame, end);
    const picture = this.game.look(id, last);
    return { key: `branch-${id}`, branch: id, frame: last, caption, picture, part: "pixels", isOver };
  }

  #arrange(wanted) {
    const keys = wanted.map((each) => each.key).join();
    if (keys === this.keys) return;
    this.keys = keys;
    const made = wanted.map(({ key }) => this.shown.find((each) => each.key === key) ?? makeScreen(key));
    this.screens.replaceChildren(...made.map((each) => each.figure));
    this.shown = made;
    this.#fit();
  }

  #show(screen, { caption, branch, frame, picture, part, isOver, isHere }) {
    screen.figure.classList.toggle("over", Boolean(isOver));
    screen.figure.classList.toggle("here", Boolean(isHere));
    if (branch !== undefined) screen.figure.style.setProperty("--lane", laneColor(branch));
    setCaption(screen.caption, caption, branch);
    const pixels = picture?.[part];
    // A canvas says which moment it shows, and keeps its last picture while another is on its way.
    if (!pixels) return forget(screen);
    Object.assign(screen.canvas.dataset, { frame, branch: branch ?? "" });
    if (screen.pixels === pixels) return;
    screen.pixels = pixels;
    screen.figure.hidden = false;
    draw(screen.canvas, pixels, picture.h, picture.w);
    if (screen.key !== "world") return;
    this.#light(screen.canvas);
    screen.canvas.setAttribute("aria-label", `The world, frame ${frame}`);
  }

  /** Down to a few pixels and up again: a soft light without the cost of a blur. */
  #light(canvas) {
    const few = (this.few ??= Object.assign(document.createElement("canvas"), { width: 5, height: 5 }));
    for (const [from, to] of [[canvas, few], [few, this.glow]]) {
      const light = to.getContext("2d");
      light.imageSmoothingQuality = "high";
      light.drawImage(from, 0, 0, to.width, to.height);
    }
  }

  /** The largest size at which all pictures fit beside and under each other. */
  #fit() {
    const count = Math.max(1, this.shown.length);
    const caption = count > 1 ? CAPTION_PX : 0;
    const style = getComputedStyle(this.well);
    const room = { w: this.well.clientWidth - 2 * 12, h: parseFloat(style.height) - 2 * 10 };
    const scale = Math.max(
      ...Array.from({ length: count }, (_, index) => {
        const columns = index + 1;
        const rows = Math.ceil(count / columns);
        const wide = (room.w - GAP_PX * (columns - 1)) / columns / this.width;
        const high = (room.h - rows * caption - 8 * (rows - 1)) / rows / this.height;
        return Math.min(wide, high);
      }),
    );
    const times = scale >= WHOLE_FROM ? Math.floor(scale * devicePixelRatio) / devicePixelRatio : Math.max(scale, 0.5);
    this.shown.forEach(({ canvas }) => {
      canvas.style.width = `${this.width * times}px`;
      canvas.style.height = `${this.height * times}px`;
    });
  }
}

function forget(screen) {
  delete screen.canvas.dataset.frame;
}

function makeScreen(key) {
  const figure = document.createElement("figure");
  const canvas = document.createElement("canvas");
  const caption = document.createElement("figcaption");
  figure.className = "screen";
  figure.hidden = true;
  figure.dataset.screen = canvas.id = key;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", key === "twin-game" ? "The real game" : "The world");
  figure.append(canvas, caption);
  return { key, figure, canvas, caption, pixels: null };
}

function setCaption(caption, text, branch) {
  if (caption.dataset.text === `${text} ${branch}`) return;
  caption.dataset.text = `${text} ${branch}`;
  caption.replaceChildren();
  if (!text) return;
  const dot = document.createElement("span");
  dot.className = "dot";
  if (branch !== undefined) dot.style.setProperty("--lane", laneColor(branch));
  caption.append(dot, text);
}

/** The colour of a branch, everywhere the same. */
export function laneColor(branch) {
  return `var(--branch-${branch % 6})`;
}
