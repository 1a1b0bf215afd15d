/** Frames per second and latency, over the last 30 frames. */

const COUNTED = 30;
// A rest this long is not slowness: counting begins anew.
const REST_MS = 1500;

export class Meters {
  constructor(fps, latency) {
    Object.assign(this, { fps, latency });
    this.times = [];
    this.waits = [];
  }

  /** A frame is shown now, `ms` after it was asked for. */
  count(ms) {
    const now = performance.now();
    if (now - (this.times.at(-1) ?? 0) > REST_MS) this.times = [];
    this.times = [...this.times, now].slice(-COUNTED);
    this.waits = [...this.waits, ms].slice(-COUNTED);
    const span = (now - this.times[0]) / 1000;
    if (this.times.length > 2) this.fps.value = ((this.times.length - 1) / span).toFixed(0);
    this.latency.value = median(this.waits).toFixed(0);
  }
}

/** The middle of some numbers. */
export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
