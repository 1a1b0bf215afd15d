/** The page: what the server offers, one game, and all parts around it. */

import { held, pressed } from "./buttons.js";
import { Cards } from "./cards.js";
import { Gallery } from "./gallery.js";
import { Game } from "./game.js";
import { Hands } from "./hands.js";
import { isIdle, Keys } from "./keys.js";
import { Lanes } from "./lanes.js";
import { Meters } from "./meters.js";
import { Notices } from "./notices.js";
import { Screens } from "./screens.js";
import { wireDrivers, wireSeed, wireShare, wireTwin } from "./settings.js";
import { readLink } from "./share.js";
import { Sliders } from "./sliders.js";
import { toggleTheme } from "./theme.js";
import { Timeline } from "./timeline.js";

const ABOUT_AGAIN_MS = 2000;
const at = (id) => document.getElementById(id);

const notices = new Notices(
  {
    banner: at("banner"),
    bannerText: at("banner-text"),
    bannerNow: at("banner-now"),
    veil: at("veil"),
    veilTitle: at("veil-title"),
    veilText: at("veil-text"),
    veilPulse: at("veil-pulse"),
    veilNow: at("veil-now"),
    toasts: at("toasts"),
    status: at("status"),
  },
  () => game.wire.connect(),
);
const game = new Game();

/** What the server offers; asked for again until it answers. */
async function askAbout() {
  for (;;) {
    try {
      const answer = await fetch("/api/about");
      const told = await answer.json();
      if (answer.ok) return told;
      notices.fail(told.error);
    } catch {
      notices.state("offline", { wait_ms: ABOUT_AGAIN_MS });
    }
    await new Promise((resolve) => setTimeout(resolve, ABOUT_AGAIN_MS));
  }
}

/** Everything that is on the page once it is known what there is to play. */
function build(about) {
  const { controls } = about;
  const hasActions = controls.kind !== "code";
  const codes = Array.from({ length: about.num_codes }, (_, code) => code);
  let hasFallenBack = false;
  let terms = hasActions ? "action" : "code";
  game.names = about.code_names;

  const codeNames = () => codes.map((code) => game.names[code] ?? "");
  const names = () => (terms === "code" ? codeNames() : controls.kind === "continuous" ? [] : controls.names);
  const areSliders = () => terms === "action" && controls.kind === "continuous";

  const idle = () => {
    if (areSliders()) return { value: sliders.value, terms };
    const index = names().findIndex(isIdle);
    return index >= 0 ? cards.choice(index) : null;
  };
  const hands = new Hands(game, idle);
  const cards = new Cards(at("cards"), hands, (code, name) => game.rename(code, name));
  const sliders = controls.kind === "continuous" ? new Sliders(at("sliders"), controls, () => hands.driver && hands.drive(null)) : null;
  const screens = new Screens({ well: at("well"), screens: at("screens"), glow: at("glow") }, game, about.frame_hw);
  const timeline = new Timeline({ strip: at("strip"), film: at("film"), head: at("head"), seek: at("seek") }, game, (moment) => {
    if (moment) hands.stop();
    screens.scrub(moment);
    sayMoment();
  });
  const lanes = new Lanes(at("lanes"), game, timeline, (pinned) => screens.pin(pinned));
  const meters = new Meters(at("fps"), at("latency"));
  const gallery = new Gallery(
    { root: at("gallery"), own: at("own"), file: at("file"), note: at("start-note"), error: at("start-error"), drop: at("drop") },
    about,
    (start) => begin(start, Number(at("seed").value)),
  );

  /** A new game. */
  function begin(start, seed, more = {}) {
    hands.stop();
    lanes.clear();
    at("share-box").hidden = true;
    game.open(start, seed, more);
  }

  function lay() {
    at("cards").hidden = areSliders();
    at("sliders").hidden = !areSliders();
    const shown = terms === "code" ? codes : (controls.codes ?? []);
    if (!areSliders()) cards.lay(terms, names(), shown);
    hands.last = areSliders() ? null : cards.choice(0);
    for (const each of ["action", "code"]) {
      at(`tab-${each}`).setAttribute("aria-selected", String(each === terms));
      at(`tab-${each}`).tabIndex = each === terms ? 0 : -1;
    }
  }

  function sayMoment() {
    const { branch, frame } = screens.scrubbed ?? game.cursor;
    const end = game.tree.end(branch);
    at("moment").textContent = `frame ${frame}`;
    at("moment-of").textContent = `of ${end}`;
  }

  function sayTree() {
    const { branch, frame } = game.cursor;
    sayMoment();
    at("back").disabled = frame === 0;
    for (const [id, path] of [["film-link", "film.mp4"], ["replay-link", "replay"]]) {
      const isKept = game.token && game.tree.end(branch) > 0 && game.isReady;
      at(id).setAttribute("aria-disabled", String(!isKept));
      if (isKept) at(id).href = `/api/sessions/${encodeURIComponent(game.token)}/${path}?branch=${branch}`;
      else at(id).removeAttribute("href");
    }
    sayHint();
    gallery.mark(game.start);
    if (document.activeElement !== at("seed")) at("seed").value = game.seed;
    notices.say(`Frame ${frame} of ${game.tree.end(branch)}, branch ${game.tree.letter(branch)}`);
  }

  function sayHint() {
    const isFirst = game.state === "ready" && game.tree.longest === 0;
    const isPast = game.isReady && !game.isAtEnd && !hands.rewinding;
    at("hint").hidden = !isFirst && !isPast;
    if (isFirst) at("hint").textContent = areSliders() ? "Set the sliders and press space" : "Press a key, or a card below";
    else if (isPast) at("hint").textContent = "Act from here, and a new branch begins";
  }

  function sayHands() {
    const { running, driver } = hands;
    at("run").setAttribute("aria-pressed", String(running));
    at("run-text").textContent = running ? "Pause" : "Run";
    at("run-icon").setAttribute("href", running ? "#i-pause" : "#i-play");
    if (!driver) cards.light(hands.held?.terms === terms ? hands.held.value : null);
  }

  /** Light up what a policy, or a finger that is gone already, did. */
  function sayAct() {
    const { code, action } = game.tree.cause(game.cursor.branch, game.cursor.frame);
    if (hands.held || code === null) return;
    if (hands.driver && areSliders() && Array.isArray(action)) sliders.show(action);
    const index = terms === "code" ? code : action;
    if (Number.isInteger(index)) cards.light(index, { brief: true });
  }

  function wireGame() {
    let lost = {};
    game.addEventListener("lost", ({ detail }) => {
      lost = detail;
      hands.stop();
      notices.state(game.state, lost);
      notices.say(game.state === "busy" ? "All places are taken" : "The server does not answer");
    });
    game.addEventListener("state", () => {
      if (!["offline", "busy", "resting"].includes(game.state)) notices.state(game.state, lost);
      if (game.isReady) hasFallenBack = false;
      if (game.state === "ready") notices.say("Ready to play");
      sayTree();
    });
    game.addEventListener("refused", ({ detail }) => {
      notices.toast(detail.reason);
      if (detail.of !== "ping") hands.stop();
      at("twin").checked = game.twin;
      if (detail.of === "open") beginFallback();
    });
    game.addEventListener("tree", sayTree);
    game.addEventListener("picture", sayAct);
    game.addEventListener("names", () => terms === "code" && cards.call(codeNames()));
    game.addEventListener("answered", ({ detail }) => meters.count(detail.ms));
    hands.addEventListener("change", sayHands);
  }

  /** A start that cannot be had, of an old link say: the run's first one instead, once. */
  function beginFallback() {
    if (about.starts.length && !hasFallenBack) begin({ kind: "gallery", index: 0 }, 0);
    else notices.fail("No start can be shown; bring an image of your own.");
    hasFallenBack = true;
  }

  function wireTransport() {
    held(at("back"), () => hands.wind(-1), () => hands.letGo());
    held(at("step"), () => hands.step(), () => hands.letGo());
    pressed(at("run"), () => hands.toggleRun());
    at("rate").addEventListener("input", () => setRate(Number(at("rate").value)));
    const setRate = (rate_hz) => {
      hands.setRate(rate_hz);
      at("rate").value = rate_hz;
      at("rate-text").value = `${rate_hz} per second`;
    };
    setRate(Math.max(1, Math.min(30, Math.round(about.rate_hz))));
  }

  function wireTabs() {
    at("tabs").hidden = !hasActions;
    for (const each of ["action", "code"]) {
      const tab = at(`tab-${each}`);
      const choose = () => {
        if (each === terms) return;
        terms = each;
        hands.stop();
        lay();
        sayHint();
      };
      pressed(tab, choose);
      tab.addEventListener("keydown", (event) => {
        if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
        const other = at(`tab-${each === "code" ? "action" : "code"}`);
        other.click();
        other.focus();
      });
    }
  }

  function wireKeys() {
    const goTo = (frame) => game.seek(game.cursor.branch, frame);
    new Keys({
      names,
      press: (index) => hands.press(cards.choice(index)),
      hold: (index) => hands.hold(index === null ? null : cards.choice(index)),
      special: {
        " ": { down: () => hands.step(), up: () => hands.letGo() },
        Enter: { down: () => hands.toggleRun() },
        r: { down: () => hands.wind(-1), up: () => hands.letGo() },
        f: { down: () => hands.wind(1), up: () => hands.letGo() },
        p: { down: togglePolicy },
        "?": { down: () => at("help").showModal() },
        Home: { down: () => goTo(0) },
        End: { down: () => goTo(Infinity) },
      },
    });
  }

  const { length: num } = codes;
  at("title").textContent = document.title = about.title;
  const [high, wide] = about.frame_hw;
  at("about").textContent = `a world learnt from video: ${num} codes, ${wide} × ${high} pixels, ${about.rate_hz} frames per second`;
  at("version").textContent = `genie_lite ${about.version}`;
  lay();
  const togglePolicy = wireDrivers(about, hands, notices);
  wireGame();
  wireTransport();
  wireSeed(game, begin);
  wireTwin(about, game, begin);
  wireShare(game, gallery, notices, controls.kind);
  pressed(at("theme"), toggleTheme);
  pressed(at("help-open"), () => at("help").showModal());
  wireTabs();
  wireKeys();
  giveKeysBack();

  const openLink = () => {
    const linked = readLink(location.hash, about.limits.frames);
    if (linked) begin(linked.start, linked.seed, { path: linked.path });
    return linked !== null;
  };
  addEventListener("hashchange", openLink);
  if (openLink()) return;
  if (about.starts.length) begin({ kind: "gallery", index: 0 }, 0);
  else notices.fail("The run brings no frames to begin from. Choose, paste or drop an image of your own.");
}

/** What a mouse has set gives the keys back to the game; what a keyboard has set keeps them. */
function giveKeysBack() {
  let isPointer = false;
  addEventListener("pointerdown", () => (isPointer = true), true);
  addEventListener("keydown", () => (isPointer = false), true);
  addEventListener("change", ({ target }) => {
    if (isPointer && target.matches("input[type=range], input[type=radio], input[type=checkbox]")) target.blur();
  });
}

build(await askAbout());
