/**
 * One game as this page knows it: the connection, the tree of branches, where it stands, and the frames that were seen.
 *
 * Events: "state" (loading, replaying, ready, playing, busy, offline, resting), "picture" (another frame is shown), "tree" (branches or the
 * place in them changed), "names", "refused" {reason, of}, "lost" {wait_ms, busy, code}, "back" {resumed}, "look"
 * {branch, frame}, "twin", "answered" {ms} (a frame came that an action asked for).
 */

import { Frames } from "./frames.js";
import { Tree } from "./tree.js";
import { Wire } from "./wire.js";

// Acts that may be on their way at once: one is computed while the answer to the other travels.
const MOST_UNANSWERED = 2;
// Likewise of looks: a strip or branches beside it want many at once, and the player's own acts wait behind them.
const MOST_LOOKS = 2;

export class Game extends EventTarget {
  constructor() {
    super();
    this.tree = new Tree();
    this.frames = new Frames();
    this.cursor = { branch: 0, frame: 0 };
    this.names = {};
    this.state = "loading";
    this.token = null;
    this.start = null;
    this.seed = 0;
    this.twin = false;
    this.twinDone = false;
    this.path = null; // played at once, from a link or after a loss: {terms, values}
    this.sent = new Map(); // acts on their way: seq -> when they were asked for
    this.seq = 0;
    this.sought = null;
    this.looking = new Map(); // looks on their way: moment -> seq
    this.wire = new Wire({
      connected: () => this.#connected(),
      text: (message) => this.#text(message),
      frame: (frame) => this.#frame(frame),
      lost: (info) => this.#lost(info),
    });
  }

  /** Begin a game. path: what is played at once, {terms, values}. */
  open(start, seed, { path = null, twin = false } = {}) {
    Object.assign(this, { start, seed, path, twin, token: null, twinDone: false, sought: null });
    this.sent.clear();
    this.looking.clear();
    this.frames.clear();
    this.tree.read([{ id: 0, parent: null, at: 0, codes: [], actions: [] }]);
    this.cursor = { branch: 0, frame: 0 };
    this.#become("loading");
    this.#tell("tree");
    if (this.wire.isOpen) this.#sendOpen();
    else this.wire.connect();
  }

  get isReady() {
    return this.state === "ready" || this.state === "playing";
  }

  /** Whether another act can be asked for now. */
  get isFree() {
    return (this.isReady || this.state === "replaying") && this.sent.size < MOST_UNANSWERED;
  }

  get isAtEnd() {
    return this.cursor.frame === this.tree.end(this.cursor.branch);
  }

  /** One frame on. when: performance.now() of the key; null for `value` with a driver lets a policy choose. */
  act(value, terms, driver = null, when = performance.now()) {
    if (!this.isFree) return false;
    // Whoever acts while a link is being played goes on from there; the server stops playing then.
    if (this.path) this.#replayed();
    const seq = ++this.seq;
    this.sent.set(seq, when);
    this.wire.send({ type: "act", action: value, terms, seq, ...(driver ? { driver } : {}) });
    return true;
  }

  /** Go to a moment. It is shown at once if it was seen before. */
  seek(branch, frame) {
    const to = { branch, frame: Math.max(0, Math.min(frame, this.tree.end(branch))) };
    if (!this.isReady || (to.branch === this.cursor.branch && to.frame === this.cursor.frame)) return;
    this.cursor = this.sought = to;
    this.wire.send({ type: "seek", ...to });
    if (this.picture(to.branch, to.frame)) this.#tell("picture");
    this.#tell("tree");
  }

  /** The picture of a moment, or null; one that was not seen yet is asked for, and "look" tells when it is there. */
  look(branch, frame) {
    const seen = this.picture(branch, frame);
    const owner = this.tree.owner(branch, frame);
    // Whoever wants more asks again when "look" tells that one has come.
    if (seen || this.looking.has(`${owner}:${frame}`) || this.looking.size >= MOST_LOOKS || !this.isReady) return seen;
    this.looking.set(`${owner}:${frame}`, ++this.seq);
    this.wire.send({ type: "look", branch: owner, frame, seq: this.seq });
    return null;
  }

  /** The picture of a moment if it was seen before, else null. */
  picture(branch, frame) {
    return this.frames.get(this.tree.owner(branch, frame), frame);
  }

  rename(code, name) {
    this.wire.send({ type: "name", code, name });
  }

  /** Begin again, with another seed say. */
  restart({ seed = this.seed, twin = this.twin } = {}) {
    this.open(this.start, seed, { twin });
  }

  setTwin(on) {
    this.twin = on;
    this.wire.send({ type: "twin", on });
  }

  /** What led to where the game stands: [{code, action}]. */
  steps() {
    return this.tree.path(this.cursor.branch, this.cursor.frame);
  }

  #sendOpen() {
    const played = this.path ? { actions: this.path.values, terms: this.path.terms } : {};
    this.wire.send({ type: "open", start: this.start, seed: this.seed, ...played });
    // It would end what is being played.
    if (this.twin && !this.path) this.wire.send({ type: "twin", on: true });
  }

  #connected() {
    if (this.token) this.wire.send({ type: "resume", session: this.token });
    else if (this.start) this.#sendOpen();
  }

  #lost(info) {
    this.sent.clear();
    this.looking.clear();
    this.sought = null;
    this.#become(info.busy ? "busy" : info.wait_ms === null ? "resting" : "offline");
    this.#tell("lost", info);
  }

  #text(message) {
    if (message.type === "session") this.#session(message);
    if (this.#isOfAnother(message)) return;
    if (message.type === "tree") this.#tree(message);
    if (message.type === "branch") this.tree.begin(message.id, message.parent, message.at);
    if (message.type === "names") {
      this.names = message.names;
      this.#tell("names");
    }
    if (message.type === "twin") {
      this.twin = message.on;
      this.#tell("twin");
    }
    if (message.type === "refused") this.#refused(message);
  }

  /** Until the server names the game that was asked for, its words are of the one before, save those on asking. */
  #isOfAnother({ type, of }) {
    if (this.token || type === "names") return false;
    return type !== "refused" || ["act", "seek", "look", "twin"].includes(of);
  }

  #session({ token, resumed }) {
    this.token = token;
    // Lost in the middle of a link: from its beginning again.
    if (resumed && this.path) return this.open(this.start, this.seed, { path: this.path, twin: this.twin });
    this.#tell("back", { resumed });
  }

  #tree({ branches, cursor, seed, start }) {
    this.tree.read(branches);
    if (cursor && !this.sought) this.cursor = cursor;
    if (seed !== undefined) this.seed = seed;
    // A picture from a link stays with whoever brought it: it is long, and the server may name it otherwise.
    if (start && this.start?.kind !== "pixels") this.start = start;
    this.#tell("tree");
  }

  #refused({ reason, seq, of }) {
    if (of === "resume") return this.#again();
    this.sent.delete(seq);
    this.looking.forEach((asked, moment) => asked === seq && this.looking.delete(moment));
    this.sought = null;
    if (this.path && of !== "open") this.#replayed();
    if (of === "twin") this.twin = false;
    this.#tell("refused", { reason, of });
  }

  /** The server knows this game no more. The same start, seed and codes lead to the same frames. */
  #again() {
    const steps = this.steps();
    const inActions = this.twin && steps.every(({ action }) => action !== null);
    const terms = inActions ? "action" : "code";
    const values = steps.map((step) => step[terms]);
    this.open(this.start, this.seed, { path: { terms, values }, twin: this.twin });
  }

  #frame(frame) {
    if (!this.token) return; // of the game before
    if (frame.frame > 0 && frame.type === "frame") {
      this.tree.grow(frame.branch, frame.frame, frame.code, frame.action);
    }
    const owner = this.tree.owner(frame.branch, frame.frame);
    this.frames.put(owner, frame.frame, frame);
    this.looking.delete(`${owner}:${frame.frame}`);
    if (frame.type === "look") return this.#tell("look", { branch: owner, frame: frame.frame });
    this.#moved(frame);
  }

  #moved({ branch, frame, seq, twin, twin_done }) {
    if (twin) this.twinDone = Boolean(twin_done);
    const asked = this.sent.get(seq);
    this.sent.delete(seq);
    // While somebody drags, answers to places they have left arrive late: those are not gone back to.
    const isStale = this.sought && asked === undefined && (this.sought.branch !== branch || this.sought.frame !== frame);
    if (isStale) return;
    this.sought = null;
    this.cursor = { branch, frame };
    this.#arrived();
    this.#tell("picture");
    this.#tell("tree");
    if (asked !== undefined) this.#tell("answered", { ms: performance.now() - asked });
  }

  #arrived() {
    const { branch, frame } = this.cursor;
    if (this.path && (branch > 0 || frame < this.path.values.length)) return this.#become("replaying");
    if (this.path) return this.#replayed();
    this.#become(this.tree.longest > 0 ? "playing" : "ready");
  }

  /** What a link said has been played. */
  #replayed() {
    this.path = null;
    this.#become("playing");
    if (this.twin) this.wire.send({ type: "twin", on: true });
  }

  #become(state) {
    if (state === this.state) return;
    this.state = state;
    this.#tell("state");
  }

  #tell(type, detail = null) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
