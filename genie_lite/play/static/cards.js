/** The cards under the picture: what one can do, its key, what it looks like, and what it is called. */

import { isIdle, keyLabel, signOf } from "./keys.js";

// More than this, and cards become small.
const DENSE_FROM = 13;
const FLASH_MS = 160;

export class Cards {
  /**
   * @param root where they stand. @param hands who acts.
   * @param rename (code, name) => keeps a code's name.
   */
  constructor(root, hands, rename) {
    Object.assign(this, { root, hands, rename });
    this.cards = [];
    // A large alphabet has hundreds of previews, each of which the server has to paint.
    this.seen = new IntersectionObserver((entries) => entries.filter((each) => each.isIntersecting).forEach(({ target }) => this.#show(target)));
  }

  /**
   * Lay out cards.
   *
   * @param terms "action" or "code". @param names of each. @param codes whose preview shows it, by index; may lack some.
   */
  lay(terms, names, codes) {
    Object.assign(this, { terms, names: [...names] });
    this.cards = names.map((name, index) => this.#card(index, name, codes[index]));
    this.root.classList.toggle("dense", names.length >= DENSE_FROM);
    this.root.replaceChildren(...this.cards.map(({ card }) => card));
  }

  /** Other names for the same cards; one that is being written stays. */
  call(names) {
    this.names = [...names];
    this.cards.forEach(({ called, key, button }, index) => {
      const name = names[index];
      if (called.tagName === "INPUT" && document.activeElement !== called) called.value = called.dataset.kept = name;
      key.textContent = keyLabel(index, name);
      key.hidden = !key.textContent;
      button.setAttribute("aria-label", label(this.terms, index, name));
    });
  }

  /** Light up what is held down; or, for a moment, what a policy just did. */
  light(index, { brief = false } = {}) {
    this.cards.forEach(({ card }, place) => card.classList.toggle("on", place === index));
    clearTimeout(this.flash);
    if (brief) this.flash = setTimeout(() => this.light(null), FLASH_MS);
  }

  choice(index) {
    return { value: index, terms: this.terms };
  }

  #card(index, name, code) {
    const card = document.createElement("div");
    const button = document.createElement("button");
    const key = document.createElement("kbd");
    card.className = "act";
    card.dataset.index = index;
    button.type = "button";
    button.setAttribute("aria-label", label(this.terms, index, name));
    key.setAttribute("aria-hidden", "true");
    key.textContent = keyLabel(index, name);
    key.hidden = !key.textContent;
    button.append(sign(name || String(index)));
    if (code !== undefined) {
      button.dataset.code = code;
      this.seen.observe(button);
    }
    this.#listen(button, index);
    const called = this.terms === "code" ? this.#nameField(index, name) : nameText(name);
    card.append(button, key, called);
    return { card, button, key, called };
  }

  #show(button) {
    this.seen.unobserve(button);
    preview(button.dataset.code, button);
  }

  #listen(button, index) {
    let isPressed = false;
    button.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      isPressed = true;
      button.setPointerCapture(event.pointerId);
      this.hands.press(this.choice(index));
    });
    ["pointerup", "pointercancel"].forEach((type) => button.addEventListener(type, () => this.hands.letGo()));
    button.addEventListener("contextmenu", (event) => event.preventDefault());
    button.addEventListener("click", () => {
      // Enter, space and screen readers click without a pointer that went down before.
      if (!isPressed) {
        this.hands.press(this.choice(index));
        this.hands.letGo();
      }
      if (isPressed) button.blur();
      isPressed = false;
    });
  }

  #nameField(code, name) {
    const field = document.createElement("input");
    Object.assign(field, { type: "text", className: "called", value: name, maxLength: 24, placeholder: `code ${code}` });
    field.dataset.kept = name;
    field.autocomplete = "off";
    field.spellcheck = false;
    field.setAttribute("aria-label", `Name of code ${code}`);
    field.title = "Give it a name";
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") field.value = field.dataset.kept;
      if (event.key === "Escape" || event.key === "Enter") field.blur();
    });
    field.addEventListener("change", () => {
      field.dataset.kept = field.value.trim();
      this.rename(code, field.dataset.kept);
    });
    return field;
  }
}

function label(terms, index, name) {
  const called = name || `${terms} ${index}`;
  const key = keyLabel(index, name);
  return key ? `${called}, key ${key}` : called;
}

function nameText(name) {
  const text = document.createElement("span");
  text.className = "called";
  text.textContent = isIdle(name) ? "nothing" : name;
  text.title = name;
  return text;
}

function sign(name) {
  const made = document.createElement("span");
  made.className = "sign";
  made.textContent = signOf(name);
  return made;
}

/** Put a code's moving picture on a button as soon as it is there; still for whoever asks for less motion. */
function preview(code, button) {
  const image = new Image();
  Object.assign(image, { className: "preview", alt: "", draggable: false, decoding: "async" });
  image.addEventListener("load", () => {
    const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
    button.firstElementChild.replaceWith(isStill ? still(image) : image);
  });
  image.src = `/api/previews/${code}.webp`;
}

/** An image cannot be stopped; a canvas shows its first picture alone. */
function still(image) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: image.naturalWidth, height: image.naturalHeight, className: "preview" });
  canvas.getContext("2d").drawImage(image, 0, 0);
  return canvas;
}
