/** The settings beside the picture: the seed, the real game, who plays, and links. */

import { pressed } from "./buttons.js";
import { linkedStart, writeLink } from "./share.js";

const MOST_DICE = 2 ** 31;
const at = (id) => document.getElementById(id);

/** Seed and dice. begin(start, seed, more) => a new game. */
export function wireSeed(game, begin) {
  const again = () => begin(game.start, Number(at("seed").value), { twin: game.twin });
  at("seed-form").addEventListener("submit", (event) => {
    event.preventDefault();
    again();
  });
  pressed(at("dice"), () => {
    at("seed").value = Math.floor(Math.random() * MOST_DICE);
    again();
  });
}

/** A level of the real game, and that game beside the world. */
export function wireTwin(about, game, begin) {
  const level = () => ({ kind: "level", level: Number(at("level").value) });
  at("level-form").hidden = !about.game;
  at("level-form").addEventListener("submit", (event) => {
    event.preventDefault();
    begin(level(), Number(at("seed").value), { twin: at("twin").checked });
  });
  at("twin").addEventListener("change", (event) => {
    const on = event.target.checked;
    const isLevel = game.start?.kind === "level" || Number.isInteger(about.starts[game.start?.index]?.level);
    if (!on || isLevel) game.setTwin(on);
    else begin(level(), game.seed, { twin: true });
  });
  game.addEventListener("twin", () => {
    at("twin").checked = game.twin;
  });
}

/** Who plays. Returns what hands over to the policy that was chosen last, or takes back. */
export function wireDrivers(about, hands, notices) {
  let last = about.policies[0];
  at("policy-panel").hidden = !about.policies.length;
  const choices = [["", "You"], ...about.policies.map((name) => [name, name])];
  at("drivers").replaceChildren(...choices.map(([value, name]) => driverChoice(value, name)));
  at("drivers").addEventListener("change", ({ target }) => {
    last = target.value || last;
    hands.drive(target.value || null);
  });
  hands.addEventListener("change", () => {
    at("drivers").querySelectorAll("input").forEach((input) => {
      input.checked = input.value === (hands.driver ?? "");
    });
  });
  return () => {
    if (last) hands.drive(hands.driver ? null : last);
    else notices.toast("This run has no policy.");
  };
}

/** A link to the frame that is seen. kind: of the run's controls. */
export function wireShare(game, gallery, notices, kind) {
  const share = async () => {
    if (!gallery.isLinkable(game.start)) {
      notices.toast("A link carries one picture, not a video: save the replay instead.");
      return;
    }
    try {
      const { frame } = game.cursor;
      const hash = writeLink(await linkedStart(game.start), game.seed, game.steps(), kind);
      history.replaceState(null, "", hash);
      at("share-box").hidden = false;
      at("share-link").value = location.href;
      at("share-link").select();
      at("share-note").textContent = `A link to frame ${frame}`;
      await navigator.clipboard.writeText(location.href);
      at("share-note").textContent = `A link to frame ${frame}, copied`;
    } catch (error) {
      // The clipboard may be closed to this page: the link stands there to be copied by hand.
      if (at("share-box").hidden) notices.toast(`No link: ${error.message}.`);
    }
  };
  pressed(at("share"), share);
  at("share-link").addEventListener("focus", (event) => event.target.select());
}

function driverChoice(value, name) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  Object.assign(input, { type: "radio", name: "driver", value, checked: !value });
  label.append(input, name);
  return label;
}
