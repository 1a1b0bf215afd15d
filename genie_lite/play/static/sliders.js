/** Sliders for a world whose actions are vectors: one for each component, and a way back to the middle. */

const STEPS = 200;

export class Sliders {
  /** @param root where they stand. @param controls {names, low, high}. @param changed () => a slider was moved. */
  constructor(root, controls, changed) {
    Object.assign(this, { controls, changed });
    const made = controls.names.map((name, index) => this.#slider(name, index));
    this.inputs = made.map(({ input }) => input);
    const row = document.createElement("div");
    const note = document.createElement("span");
    const reset = document.createElement("button");
    row.className = "row";
    note.className = "soft small";
    note.textContent = "Set what to do, then step with space or run with Enter.";
    reset.type = "button";
    reset.textContent = "All to the middle";
    reset.addEventListener("click", () => this.reset());
    row.append(note, reset);
    root.replaceChildren(row, ...made.map(({ slider }) => slider));
  }

  /** The vector as it is set now. */
  get value() {
    return this.inputs.map((input, index) => this.#number(input, index));
  }

  /** Every component to the middle of its range. */
  reset() {
    this.inputs.forEach((input) => {
      input.value = STEPS / 2;
      this.#say(input);
    });
    this.changed();
  }

  /** Show what a policy just did. */
  show(action) {
    this.inputs.forEach((input, index) => {
      const { low, high } = this.controls;
      input.value = (STEPS * (action[index] - low[index])) / (high[index] - low[index] || 1);
      this.#say(input);
    });
  }

  #number(input, index) {
    const { low, high } = this.controls;
    const share = Number(input.value) / STEPS;
    // Ends are given as they are: rounding would put them outside the range.
    if (share <= 0) return low[index];
    if (share >= 1) return high[index];
    return low[index] + share * (high[index] - low[index]);
  }

  #slider(name, index) {
    const slider = document.createElement("div");
    const label = document.createElement("label");
    const input = document.createElement("input");
    const output = document.createElement("output");
    slider.className = "slider";
    Object.assign(input, { type: "range", min: 0, max: STEPS, step: 1, value: STEPS / 2, id: `component-${index}` });
    label.htmlFor = input.id;
    label.title = name;
    label.textContent = readable(name);
    input.dataset.index = index;
    slider.append(label, output, input);
    input.addEventListener("input", () => {
      this.#say(input);
      this.changed();
    });
    queueMicrotask(() => this.#say(input));
    return { slider, input };
  }

  #say(input) {
    const text = this.#number(input, Number(input.dataset.index)).toFixed(2);
    input.previousElementSibling.value = text;
    input.setAttribute("aria-valuetext", text);
  }
}

/** kLeftShoulderPitch -> left shoulder pitch. */
export function readable(name) {
  const words = name.replace(/^k(?=[A-Z])/, "").replace(/([a-z0-9])([A-Z])/g, "$1 $2").replace(/_/g, " ");
  return /[a-z]/.test(words) ? words.toLowerCase() : words;
}
