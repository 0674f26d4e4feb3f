// One slider for each latent number.

import { plain } from "./numbers.js";

export class Latents {
  #sliders = [];

  constructor(section, limits, change) {
    section.replaceChildren();
    limits.forEach(([low, high], dimension) => {
      const label = document.createElement("label");
      const name = document.createElement("span");
      const input = document.createElement("input");
      const output = document.createElement("output");
      name.textContent = dimension;
      Object.assign(input, { type: "range", min: low, max: high, step: (high - low) / 200 });
      input.setAttribute("aria-label", `Latent number ${dimension}`);
      input.addEventListener("input", () => {
        label.classList.add("moved");
        output.textContent = plain(Number(input.value), 2);
        change(this.values);
      });
      label.append(name, input, output);
      section.append(label);
      this.#sliders.push({ label, input, output, low, high, exact: 0 });
    });
  }

  get values() {
    // A slider that was not moved keeps its number to all digits
    return this.#sliders.map(({ label, input, exact }) => (label.classList.contains("moved") ? Number(input.value) : exact));
  }

  show(values) {
    this.#sliders.forEach((slider, dimension) => {
      slider.exact = values[dimension];
      slider.input.min = Math.min(slider.low, slider.exact);
      slider.input.max = Math.max(slider.high, slider.exact);
      slider.input.value = slider.exact;
      slider.output.textContent = plain(slider.exact, 2);
      slider.label.classList.remove("moved");
    });
  }
}
