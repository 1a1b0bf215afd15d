/** Which key means what, and the keyboard itself. */

const ARROWS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down" };
const SIGNS = { left: "←", right: "→", up: "↑", down: "↓" };
const DIGITS = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "0"];
// F, P and R have a meaning of their own.
const LETTERS = [..."qwetyuioasdghjklzxcvbnm"];
export const SPARE_KEYS = [...DIGITS, ...LETTERS];

/** The directions a name is made of, as "left+up", or null if it is anything else. */
export function directionsOf(name) {
  const words = name.toLowerCase().split(/[\s+]+/);
  return words.every((word) => word in SIGNS) ? [...words].sort().join("+") : null;
}

/** Names that mean "do nothing". */
export function isIdle(name) {
  return /^(no-?op|idle|none|nothing|stay|still|wait)$/i.test(name);
}

/** What is written on a card's key: arrows for directions, else a digit or a letter. */
export function keyLabel(index, name) {
  const directions = directionsOf(name);
  if (directions) return directions.split("+").map((each) => SIGNS[each]).join("");
  return (SPARE_KEYS[index] ?? "").toUpperCase();
}

/** A large sign for an action that has no picture. */
export function signOf(name) {
  const directions = directionsOf(name);
  if (directions === "left+up") return "↖";
  if (directions === "right+up") return "↗";
  if (directions === "down+left") return "↙";
  if (directions === "down+right") return "↘";
  if (directions && SIGNS[directions]) return SIGNS[directions];
  if (isIdle(name)) return "·";
  return /^\d+$/.test(name) ? name : name.slice(0, 1).toUpperCase();
}

export class Keys {
  /**
   * @param names () => the names of what one can do now, by index; empty where sliders say it.
   * @param press (index) => a key went down. @param hold (index | null) => what is held changed.
   * @param special {key: {down, up?}} other keys.
   */
  constructor({ names, press, hold, special }) {
    Object.assign(this, { names, press, hold, special });
    this.down = [];
    addEventListener("keydown", (event) => this.#keydown(event));
    addEventListener("keyup", (event) => this.#keyup(event));
    // A key that is let go in another window is never reported here.
    addEventListener("blur", () => this.#releaseAll());
  }

  #keydown(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || isTaken(event)) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const special = this.special[key];
    if (special) {
      event.preventDefault();
      if (!event.repeat) special.down();
      return;
    }
    if (this.#indexOf([...this.down, key], key) === null) return;
    event.preventDefault();
    if (event.repeat || this.down.includes(key)) return;
    this.down.push(key);
    this.press(this.#indexOf(this.down, key));
  }

  #keyup(event) {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    this.special[key]?.up?.();
    if (!this.down.includes(key)) return;
    this.down = this.down.filter((each) => each !== key);
    this.hold(this.down.length ? this.#indexOf(this.down, this.down.at(-1)) : null);
  }

  #releaseAll() {
    this.down = [];
    this.hold(null);
    Object.values(this.special).forEach((each) => each.up?.());
  }

  /** What the keys that are down mean together: arrows combine where an action is called so. */
  #indexOf(down, newest) {
    const names = this.names();
    if (!(newest in ARROWS)) {
      const index = SPARE_KEYS.indexOf(newest);
      return index >= 0 && index < names.length ? index : null;
    }
    const together = down.filter((key) => key in ARROWS).map((key) => ARROWS[key]);
    const wanted = [[...new Set(together)].sort().join("+"), ARROWS[newest]];
    const found = wanted.map((each) => names.findIndex((name) => directionsOf(name) === each));
    return found.find((index) => index >= 0) ?? null;
  }
}

/** Whether the element in focus wants this key for itself. */
function isTaken(event) {
  const at = event.target;
  if (!(at instanceof Element)) return false;
  if (at.closest("dialog[open]")) return true;
  if (at.matches("input[type=text], input[type=number]")) return true;
  const { key } = event;
  if (at.matches("input[type=range], input[type=radio], [role=tab]")) return key in ARROWS || key === "Home" || key === "End" || key === " ";
  return at.matches("button, a, input, summary") && (key === " " || key === "Enter");
}
