/**
 * The socket to the server: JSON text both ways, frames as bytes, and coming back by itself when it breaks.
 *
 *     frame = 4 bytes little-endian length of a JSON header · header · h*w*3 bytes RGB · the real engine's RGB, if any
 */

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;
const BUSY_WAIT_MS = 5000;
const PING_EVERY_MS = 10000;
// Given up because nothing happened, or gone on with elsewhere: coming back is for the player to say.
const STAYS_CLOSED = [4408, 4409];

/** Header and pictures of one binary message. */
export function parseFrame(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const size = header.h * header.w * 3;
  const pixels = new Uint8Array(buffer, 4 + length, size);
  const twin = header.twin ? new Uint8Array(buffer, 4 + length + size, size) : null;
  return { ...header, pixels, twin };
}

export class Wire {
  /**
   * @param {{connected: () => void, text: (message: object) => void, frame: (frame: object) => void,
   *          lost: (info: {wait_ms: number | null, busy: string | null, code: number}) => void}} on
   *   What happens. wait_ms: until the next try; null if there is none without `connect`.
   */
  constructor(on) {
    this.on = on;
    this.socket = null;
    this.tries = 0;
    this.busy = null;
    this.timer = 0;
    this.pinged = 0;
    addEventListener("online", () => this.timer && !this.isOpen && this.connect());
    setInterval(() => this.#ping(), PING_EVERY_MS);
  }

  get isOpen() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  /** Connect now, whatever was waited for. */
  connect() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.socket?.close();
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/ws`);
    socket.binaryType = "arraybuffer";
    // An older socket that dies late must not be taken for this one.
    const current = (act) => (event) => this.socket === socket && act(event);
    socket.onopen = current(() => {
      this.busy = null;
      this.pinged = 0;
      this.on.connected();
    });
    socket.onmessage = current((event) => this.#receive(event.data));
    socket.onclose = current((event) => this.#lost(event.code));
    this.socket = socket;
  }

  /** Send a message, if there is anybody to send it to. */
  send(message) {
    if (this.isOpen) this.socket.send(JSON.stringify(message));
    return this.isOpen;
  }

  #receive(data) {
    this.pinged = 0; // whatever comes is a sign of life
    if (typeof data !== "string") {
      this.tries = 0;
      this.on.frame(parseFrame(data));
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "busy") this.busy = message.reason;
    this.on.text(message);
  }

  #lost(code) {
    this.socket = null;
    if (STAYS_CLOSED.includes(code)) return this.on.lost({ wait_ms: null, busy: null, code });
    const growing = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.tries);
    // Players who were sent away together should not come back together.
    const wait_ms = (this.busy ? BUSY_WAIT_MS : growing) * (0.85 + 0.3 * Math.random());
    this.tries += 1;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connect(), wait_ms);
    this.on.lost({ wait_ms, busy: this.busy, code });
  }

  /** A connection can die without a word, behind a laptop's lid say: no answer to the last ping tells. */
  #ping() {
    if (!this.isOpen) return;
    if (this.pinged) {
      this.socket.close();
      return this.#lost(1006);
    }
    this.pinged = performance.now();
    this.send({ type: "ping", seq: Math.round(this.pinged) });
  }
}
