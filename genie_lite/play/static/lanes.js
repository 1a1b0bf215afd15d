/** The tree of branches, one lane each, on the scale of the film strip; shown as soon as there are two. */

import { pressed } from "./buttons.js";
import { laneColor } from "./screens.js";

const LANE_PX = 26;
const MOST_ROOM = 4; // lanes in view; more of them scroll
const SVG = "http://www.w3.org/2000/svg";

export class Lanes {
  /** @param timeline gives the scale. @param pinned ([branch]) => which ones are shown side by side. */
  constructor(root, game, timeline, pinned) {
    Object.assign(this, { root, game, timeline, onPinned: pinned });
    this.pins = new Set();
    this.svg = svg("svg", { "aria-hidden": "true", class: "tracks" });
    this.bars = document.createElement("div");
    root.append(this.svg, this.bars);
    this.svg.addEventListener("pointerdown", (event) => this.#go(event));
    new ResizeObserver(() => this.#soon()).observe(root.parentElement);
    ["tree", "picture"].forEach((type) => game.addEventListener(type, () => this.#soon()));
  }

  /** Forget what is shown side by side, in a new game. */
  clear() {
    this.pins.clear();
    this.onPinned([]);
    this.made = null;
  }

  #soon() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      this.#draw();
    });
  }

  #draw() {
    const rows = this.game.tree.rows();
    this.root.hidden = rows.length < 2;
    // The picture makes room for the lanes: what one can do stays in view.
    const room = this.root.hidden ? 0 : Math.min(rows.length, MOST_ROOM) * LANE_PX + 7;
    document.documentElement.style.setProperty("--lanes-px", `${room}px`);
    if (this.root.hidden) return;
    this.#bars(rows);
    this.#lines(rows);
  }

  #x(frame) {
    return (frame / this.timeline.span) * this.width;
  }

  #lines(rows) {
    this.width = this.svg.clientWidth;
    const height = rows.length * LANE_PX;
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${height}`);
    this.svg.setAttribute("height", height);
    const row = new Map(rows.map(({ id }, place) => [id, place * LANE_PX + LANE_PX / 2]));
    this.row = rows.map(({ id }) => id);
    this.svg.replaceChildren(...rows.flatMap(({ id }) => this.#lane(id, row)));
  }

  #lane(id, row) {
    const { tree, cursor } = this.game;
    const { parent, at } = tree.branches.get(id);
    const y = row.get(id);
    const from = this.#x(at);
    const to = this.#x(tree.end(id));
    const bend = Math.max(0, Math.min(10, to - from));
    const path = parent === null ? `M3 ${y}H${Math.max(4, to)}` : `M${from} ${row.get(parent)}V${y - bend}Q${from} ${y} ${from + bend} ${y}H${to}`;
    const group = svg("g", { class: `lane${id === cursor.branch ? " here" : ""}` });
    group.style.setProperty("--lane", laneColor(id));
    group.append(svg("path", { class: "lane-line", d: path }), svg("circle", { class: "lane-end", cx: Math.max(4, to), cy: y, r: 3.5 }));
    if (tree.owner(cursor.branch, cursor.frame) === id) {
      group.append(svg("circle", { class: "lane-head", cx: Math.max(5, this.#x(cursor.frame)), cy: y, r: 5.5 }));
    }
    return [group];
  }

  #bars(rows) {
    const made = rows.map(({ id }) => id).join();
    if (made !== this.made) {
      this.made = made;
      this.pins = new Set([...this.pins].filter((id) => this.game.tree.branches.has(id)));
      this.bars.replaceChildren(...rows.map(({ id }, place) => this.#bar(id, place)));
      this.root.querySelector(`[data-branch="${this.game.cursor.branch}"]`)?.scrollIntoView({ block: "nearest" });
    }
    this.bars.querySelectorAll(".lane-go").forEach((go) => {
      go.setAttribute("aria-current", String(Number(go.dataset.branch) === this.game.cursor.branch));
    });
    this.bars.querySelectorAll(".lane-pin").forEach((pin) => {
      const id = Number(pin.dataset.branch);
      pin.setAttribute("aria-pressed", String(this.pins.has(id)));
      pin.hidden = id === this.game.cursor.branch;
    });
  }

  #bar(id, place) {
    const letter = this.game.tree.letter(id);
    const bar = document.createElement("div");
    bar.className = "lane-bar";
    bar.style.top = `${place * LANE_PX}px`;
    const pin = button("lane-pin", id, `Show branch ${letter} beside`);
    const icon = svg("svg", { "aria-hidden": "true" });
    icon.append(svg("use", { href: "#i-columns" }));
    const go = button("lane-go", id, `Go to the end of branch ${letter}`);
    const dot = document.createElement("span");
    dot.className = "dot";
    dot.style.setProperty("--lane", laneColor(id));
    go.append(dot, letter);
    pin.append(icon, "pin");
    pressed(pin, () => this.#toggle(id));
    pressed(go, () => this.game.seek(id, this.game.tree.end(id)));
    bar.append(go, pin);
    return bar;
  }

  #toggle(id) {
    if (this.pins.has(id)) this.pins.delete(id);
    else this.pins.add(id);
    this.onPinned([...this.pins]);
    this.#soon();
  }

  /** A click on a lane goes to that frame of that branch. */
  #go(event) {
    const box = this.svg.getBoundingClientRect();
    const id = this.row[Math.floor((event.clientY - box.top) / LANE_PX)];
    if (id === undefined) return;
    const frame = this.timeline.frameAt(event.clientX - box.left, box.width);
    const { at } = this.game.tree.branches.get(id);
    this.game.seek(id, Math.max(frame, Math.min(at + 1, this.game.tree.end(id))));
  }
}

function button(kind, branch, label) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = kind;
  made.dataset.branch = branch;
  made.title = label;
  made.setAttribute("aria-label", label);
  return made;
}

function svg(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
  return made;
}
