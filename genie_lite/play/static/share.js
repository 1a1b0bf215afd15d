/**
 * Links that play to the same frame: #g=3&s=7&c=2x5.0.3x2
 *
 *     g gallery index · l level · p the picture itself, PNG in base64url      where it begins
 *     s seed
 *     a actions or c codes, a run of equal ones as value x times              what was done
 *
 * Codes are enough for any world. Actions are given instead where each frame was led to by one of a few: a real game
 * can then be shown beside it.
 */

/**
 * What a link says: {start, seed, path: {terms, values} | null}, or null if it says nothing, or nonsense.
 * longest: how many steps a game may have; a link that says more is none of ours.
 */
export function readLink(hash, longest) {
  const said = new URLSearchParams(hash.replace(/^#/, ""));
  const start = readStart(said);
  const seed = whole(said.get("s") ?? "0");
  if (!start || seed === null) return null;
  const terms = said.has("a") ? "action" : "code";
  const values = expand(said.get("a") ?? said.get("c") ?? "", longest);
  return values && { start, seed, path: values.length ? { terms, values } : null };
}

/** The hash of a link. start: of kind gallery, level or pixels. steps: [{code, action}]. */
export function writeLink(start, seed, steps, kind) {
  const said = [startText(start), `s=${seed}`];
  const inActions = kind === "discrete" && steps.length > 0 && steps.every(({ action }) => Number.isInteger(action));
  const values = steps.map(({ code, action }) => (inActions ? action : code));
  if (values.length) said.push(`${inActions ? "a" : "c"}=${shorten(values)}`);
  return `#${said.join("&")}`;
}

/** Runs of equal numbers: [2, 2, 2, 0] -> "2x3.0". */
export function shorten(values) {
  const runs = [];
  values.forEach((value) => {
    if (runs.length && runs.at(-1).value === value) runs.at(-1).times += 1;
    else runs.push({ value, times: 1 });
  });
  return runs.map(({ value, times }) => (times > 1 ? `${value}x${times}` : `${value}`)).join(".");
}

/** The numbers again, or null if the text is no runs, or they are more than `most`. */
export function expand(text, most) {
  if (!text) return [];
  if (!/^\d{1,6}(x\d{1,6})?(\.\d{1,6}(x\d{1,6})?)*$/.test(text)) return null;
  const runs = text.split(".").map((run) => run.split("x").map(Number));
  const length = runs.reduce((sum, [, times = 1]) => sum + times, 0);
  return length <= most ? runs.flatMap(([value, times = 1]) => Array(times).fill(value)) : null;
}

/** The start of a link: an own picture travels in it. */
export async function linkedStart(start) {
  if (start.kind !== "upload") return start;
  const answer = await fetch(`/api/uploads/${start.id}.png`);
  if (!answer.ok) throw new Error("the server has this picture no more");
  const bytes = new Uint8Array(await answer.arrayBuffer());
  return { kind: "pixels", png: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")) };
}

function readStart(said) {
  const [index, level, png] = [whole(said.get("g")), whole(said.get("l")), said.get("p")];
  if (index !== null) return { kind: "gallery", index };
  if (level !== null) return { kind: "level", level };
  if (png && /^[\w-]+$/.test(png)) return { kind: "pixels", png: padded(png.replace(/-/g, "+").replace(/_/g, "/")) };
  return null;
}

function startText(start) {
  if (start.kind === "gallery") return `g=${start.index}`;
  if (start.kind === "level") return `l=${start.level}`;
  return `p=${start.png.replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "")}`;
}

function padded(text) {
  return text + "=".repeat((4 - (text.length % 4)) % 4);
}

function whole(text) {
  if (!/^\d{1,16}$/.test(text ?? "")) return null;
  const number = Number(text);
  return Number.isSafeInteger(number) ? number : null;
}
