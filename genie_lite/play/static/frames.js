/** The frames that were seen, by moment, the oldest forgotten first: rewinding shows them without asking the server. */

const MOST_BYTES = 96 * 1024 * 1024;

export class Frames {
  constructor() {
    this.kept = new Map();
    this.bytes = 0;
  }

  clear() {
    this.kept.clear();
    this.bytes = 0;
  }

  /** Keep what a moment shows: {h, w, pixels, twin}. */
  put(branch, frame, picture) {
    const key = `${branch}:${frame}`;
    const before = this.kept.get(key);
    // A look at a moment shows no real engine: what was seen beside it is not to be lost.
    const twin = picture.twin ?? before?.twin ?? null;
    this.bytes += sizeOf({ ...picture, twin }) - (before ? sizeOf(before) : 0);
    this.kept.delete(key);
    this.kept.set(key, { h: picture.h, w: picture.w, pixels: picture.pixels, twin });
    for (const [oldest, each] of this.kept) {
      if (this.bytes <= MOST_BYTES) break;
      this.kept.delete(oldest);
      this.bytes -= sizeOf(each);
    }
  }

  /** What a moment shows, or null if it is not known here. */
  get(branch, frame) {
    return this.kept.get(`${branch}:${frame}`) ?? null;
  }
}

function sizeOf(picture) {
  return picture.pixels.length + (picture.twin?.length ?? 0);
}

/** Draw a picture on a canvas of its own size. */
export function draw(canvas, pixels, h, w) {
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const image = new ImageData(w, h);
  const out = image.data;
  for (let from = 0, to = 0; from < pixels.length; from += 3, to += 4) {
    out[to] = pixels[from];
    out[to + 1] = pixels[from + 1];
    out[to + 2] = pixels[from + 2];
    out[to + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}
