/** Buttons under a mouse, a finger or a key. */

/** A button that gives the keys back to the game when a mouse pressed it. */
export function pressed(button, act) {
  button.addEventListener("click", (event) => {
    if (event.detail) button.blur();
    act();
  });
}

/** A button that acts as long as it is held. */
export function held(button, down, up) {
  let isHeld = false;
  button.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || button.disabled) return;
    isHeld = true;
    button.setPointerCapture(event.pointerId);
    down();
  });
  ["pointerup", "pointercancel"].forEach((type) => button.addEventListener(type, up));
  button.addEventListener("contextmenu", (event) => event.preventDefault());
  button.addEventListener("click", () => {
    if (!isHeld) {
      down();
      up();
    } else button.blur();
    isHeld = false;
  });
}
