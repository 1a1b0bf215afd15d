/**
 * Who acts, and when: a key that is tapped or held, the clock while the world runs, or a policy.
 *
 * A choice is {value, terms}: a code, or an action in the run's own terms. One tick of the clock is at most one frame;
 * a tick that finds the server behind is left out, so that nothing piles up.
 */

// A tap is one frame: only after this a key counts as held.
const HOLD_AFTER_MS = 220;
// Taps that are kept while the server is behind: none is lost, and none plays on long after the finger rests.
const MOST_TAPS = 4;

export class Hands extends EventTarget {
  /** @param game what to act in. @param idle () => choice: what to do when nothing is pressed. */
  constructor(game, idle) {
    super();
    Object.assign(this, { game, idle });
    this.rate_hz = 10;
    this.running = false;
    this.driver = null;
    this.held = null;
    this.last = null;
    this.taps = [];
    this.rewinding = 0;
    this.timer = 0;
    game.addEventListener("answered", () => this.#flush());
  }

  setRate(rate_hz) {
    this.rate_hz = rate_hz;
    this.#wake();
  }

  /** A key goes down, or the held keys mean something else now. */
  press(choice) {
    if (this.driver) this.drive(null);
    this.held = this.last = choice;
    if (choice && this.taps.length < MOST_TAPS) this.taps.push({ choice, when: performance.now() });
    if (!this.running) {
      this.#flush();
      this.#wake();
    }
    this.#tell();
  }

  /** What is held changes without a new press: keys were let go. null: none is left. */
  hold(choice) {
    this.held = choice;
    this.#tell();
  }

  /** One frame on with what is idle, or with what was done last. */
  step() {
    this.press(this.idle() ?? this.last);
  }

  /** Back (-1) or forward (1) through what is there, until `letGo`. */
  wind(direction) {
    this.stop();
    this.rewinding = direction;
    this.#wind();
    this.#wake();
  }

  letGo() {
    this.rewinding = 0;
    this.hold(null);
  }

  toggleRun() {
    if (this.running) this.stop();
    else this.#run();
  }

  stop() {
    this.running = false;
    this.driver = null;
    this.taps = [];
    this.#tell();
  }

  /** Hand over to a policy, or take back with null. */
  drive(name) {
    this.driver = name;
    if (name) this.#run();
    else this.stop();
  }

  #run() {
    this.running = true;
    this.#wake();
    this.#tell();
  }

  get #isActive() {
    return this.running || this.held !== null || this.rewinding !== 0;
  }

  #wake() {
    clearTimeout(this.timer);
    if (!this.#isActive) return;
    const period = 1000 / this.rate_hz;
    this.due = performance.now() + (this.running ? period : Math.max(period, HOLD_AFTER_MS));
    this.timer = setTimeout(() => this.#tick(), this.due - performance.now());
  }

  #tick() {
    if (!this.#isActive) return;
    if (this.rewinding) this.#wind();
    else this.#turn();
    const now = performance.now();
    // Late once is not late for ever: the next tick is due when it would have been, unless that is past.
    this.due = Math.max(now, this.due + 1000 / this.rate_hz);
    this.timer = setTimeout(() => this.#tick(), this.due - now);
  }

  #turn() {
    if (!this.game.isFree) return;
    if (this.taps.length) this.#tap();
    else if (this.driver) this.game.act(null, "action", this.driver);
    else this.#act(this.held ?? this.idle() ?? this.last);
  }

  /** While the world rests, taps go as soon as the server is free; while it runs, one with each tick. */
  #flush() {
    while (!this.running && this.taps.length && this.game.isFree) this.#tap();
  }

  #tap() {
    const { choice, when } = this.taps.shift();
    this.#act(choice, when);
  }

  #act(choice, when = performance.now()) {
    if (choice) this.game.act(choice.value, choice.terms, null, when);
  }

  #wind() {
    const { branch, frame } = this.game.cursor;
    this.game.seek(branch, frame + this.rewinding);
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}
