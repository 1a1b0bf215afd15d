/**
 * Time: a film strip of the branch that is played, to be dragged, and the scale that it shares with the lanes.
 *
 * The scale grows in doublings, not with every frame: what was drawn stays where it is while one plays on.
 */

import { draw } from "./frames.js";

const SHORTEST = 24; // frames
const SETTLE_MS = 120;

export class Timeline {
  /** @param parts {strip, film, head, seek} elements. @param scrub (moment | null) => what is dragged over. */
  constructor({ strip, film, head, seek }, game, scrub) {
    Object.assign(this, { strip, film, head, seek, game, scrub });
    this.scratch = document.createElement("canvas");
    this.listeners = [];
    this.drawn = 0;
    this.#listen();
    new ResizeObserver(() => this.#soon()).observe(strip);
    ["tree", "picture", "look"].forEach((type) => game.addEventListener(type, () => this.#soon()));
  }

  /** Frames from the left end to the right. */
  get span() {
    let span = SHORTEST;
    while (span < this.game.tree.longest) span *= 2;
    return span;
  }

  /** The frame at a place, in pixels from the left. */
  frameAt(x, width) {
    return Math.max(0, Math.round((x / width) * this.span));
  }

  #listen() {
    this.strip.addEventListener("pointerdown", (event) => this.#grab(event));
    this.seek.addEventListener("input", () => this.game.seek(this.game.cursor.branch, Number(this.seek.value)));
    this.seek.addEventListener("keydown", (event) => {
      // Up and down act in the game, as everywhere else; only along the strip do arrows move in time.
      if (event.key === "ArrowUp" || event.key === "ArrowDown") event.preventDefault();
    });
  }

  #grab(event) {
    if (event.button !== 0 || !this.game.isReady) return;
    event.preventDefault();
    this.strip.setPointerCapture(event.pointerId);
    const { branch } = this.game.cursor;
    const where = (at) => {
      const box = this.strip.getBoundingClientRect();
      const frame = Math.min(this.frameAt(at.clientX - box.left, box.width), this.game.tree.end(branch));
      return { branch, frame };
    };
    const move = (at) => {
      this.dragged = where(at);
      this.scrub(this.dragged);
      this.#soon();
    };
    const drop = (at) => {
      this.strip.removeEventListener("pointermove", move);
      this.strip.removeEventListener("pointerup", drop);
      this.strip.removeEventListener("pointercancel", drop);
      this.dragged = null;
      const to = where(at);
      this.game.seek(to.branch, to.frame);
      this.scrub(null);
    };
    this.strip.addEventListener("pointermove", move);
    this.strip.addEventListener("pointerup", drop);
    this.strip.addEventListener("pointercancel", drop);
    move(event);
  }

  #soon() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      this.#place();
      this.#develop();
    });
  }

  #place() {
    const { tree, cursor } = this.game;
    const { frame } = this.dragged ?? cursor;
    this.head.style.left = `${(100 * frame) / this.span}%`;
    this.seek.max = tree.end(cursor.branch);
    this.seek.value = frame;
    this.seek.setAttribute("aria-valuetext", `frame ${frame} of ${tree.end(cursor.branch)}, branch ${tree.letter(cursor.branch)}`);
  }

  /** Draw the strip, not more often than the eye needs: the head moves with every frame, the pictures rarely. */
  #develop() {
    const since = performance.now() - this.drawn;
    clearTimeout(this.later);
    if (since < SETTLE_MS) {
      this.later = setTimeout(() => this.#develop(), SETTLE_MS - since);
      return;
    }
    this.drawn = performance.now();
    const { clientWidth: width, clientHeight: height } = this.strip;
    if (!width || !this.game.isReady) return;
    const ratio = Math.min(devicePixelRatio, 2);
    Object.assign(this.film, { width: width * ratio, height: height * ratio });
    const paper = this.film.getContext("2d");
    paper.scale(ratio, ratio);
    paper.imageSmoothingEnabled = false;
    this.#pictures(paper, width, height);
  }

  #pictures(paper, width, height) {
    const { tree, cursor } = this.game;
    const end = tree.end(cursor.branch);
    const places = Math.max(1, Math.round(width / height));
    const step = width / places;
    paper.beginPath();
    // The strip ends where the branch does.
    paper.roundRect(0, 0, Math.max(3, (width * end) / this.span), height, 8);
    paper.clip();
    for (let place = 0; place < places; place += 1) {
      const frame = Math.round((place * this.span) / places);
      if (frame > end) break;
      const picture = this.game.look(cursor.branch, frame);
      if (picture) this.#picture(paper, picture, place * step, step, height);
    }
  }

  /** One picture of the strip, cut to the middle. */
  #picture(paper, { pixels, h, w }, left, width, height) {
    draw(this.scratch, pixels, h, w);
    const side = Math.min(w, (h * width) / height);
    const tall = (side * height) / width;
    paper.drawImage(this.scratch, (w - side) / 2, (h - tall) / 2, side, tall, left, 0, width + 0.5, height);
  }
}
