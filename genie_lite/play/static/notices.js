/** What the page says about itself: the veil over the picture, the banner, notes that pass, and words for screen readers. */

const TOAST_MS = 6000;
const QUIET_MS = 500;
// A reply that comes within a blink needs no word of waiting.
const VEIL_AFTER_MS = 250;

export class Notices {
  /** @param parts elements by name. @param retry () => try again now. */
  constructor(parts, retry) {
    Object.assign(this, parts);
    this.bannerNow.addEventListener("click", retry);
    this.veilNow.addEventListener("click", retry);
  }

  /** Show the state of the game. */
  state(state, detail = {}) {
    document.documentElement.dataset.state = state;
    clearInterval(this.counting);
    clearTimeout(this.veiling);
    this.banner.hidden = state !== "offline";
    if (["ready", "playing", "replaying"].includes(state)) this.veil.hidden = true;
    if (state === "loading") this.veiling = setTimeout(() => this.#cover("Waking the world", "", true), VEIL_AFTER_MS);
    if (state === "offline") this.#offline(detail.wait_ms);
    if (state === "busy") this.#busy(detail);
    if (state === "resting") this.#resting(detail.code);
  }

  /** Something that cannot be gone on from. */
  fail(text) {
    this.#cover("This world cannot be played", text, false);
  }

  /** A note that passes. */
  toast(text) {
    if (this.toasts.lastElementChild?.textContent === text) return;
    const toast = document.createElement("p");
    toast.className = "toast";
    toast.textContent = text;
    this.toasts.append(toast);
    while (this.toasts.children.length > 3) this.toasts.firstElementChild.remove();
    setTimeout(() => toast.remove(), TOAST_MS);
  }

  /** Say something to screen readers, once things have settled. */
  say(text) {
    clearTimeout(this.saying);
    this.saying = setTimeout(() => {
      this.status.textContent = text;
    }, QUIET_MS);
  }

  #offline(wait_ms) {
    this.veil.hidden = true;
    this.#count(wait_ms, (seconds) => {
      this.bannerText.textContent = `The server does not answer. Trying again ${inSeconds(seconds)}; your game is kept.`;
    });
  }

  #busy({ busy, wait_ms }) {
    this.#count(wait_ms, (seconds) => {
      this.#cover("All places are taken", `${sentence(busy)} This page does so ${inSeconds(seconds)}.`, false, "Try now");
    });
  }

  #resting(code) {
    this.toasts.replaceChildren();
    const isElsewhere = code === 4409;
    const title = isElsewhere ? "This game goes on elsewhere" : "The world fell asleep";
    const text = isElsewhere ? "It was opened in another window." : "Nothing happened for a while, and the place was given to others. Nothing is lost.";
    this.#cover(title, text, false, isElsewhere ? "Bring it back here" : "Go on");
  }

  #cover(title, text, isWorking, button = null) {
    this.veil.hidden = false;
    this.veilPulse.hidden = !isWorking;
    this.veilTitle.textContent = title;
    this.veilText.textContent = text;
    this.veilNow.hidden = !button;
    this.veilNow.textContent = button ?? "";
  }

  #count(wait_ms, show) {
    const until = performance.now() + wait_ms;
    const tick = () => show(Math.max(0, Math.ceil((until - performance.now()) / 1000)));
    tick();
    this.counting = setInterval(tick, 500);
  }
}

function inSeconds(seconds) {
  if (seconds <= 0) return "now";
  return seconds === 1 ? "in 1 second" : `in ${seconds} seconds`;
}

function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}
