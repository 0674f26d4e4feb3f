// The view of the latents: a slider for each number, those that change the picture most first.

import { plain } from "./numbers.js";

const FIRST = 12;

export class Latents {
  #sliders = [];

  // `limits`: ends of each number's slider; `order`: the numbers, those that change the picture most first.
  constructor(section, { limits, order, deviations }, change) {
    const [first, rest] = section.querySelectorAll(".latent-sliders");
    const more = section.querySelector("details");
    first.replaceChildren();
    rest.replaceChildren();
    limits.forEach(([low, high], dimension) => {
      const slider = this.#slider(low, high, dimension, change);
      this.#sliders.push({ ...slider, low, high, exact: 0, deviation: (high - low) / (2 * deviations) });
    });
    order.forEach((dimension, place) => (place < FIRST ? first : rest).append(this.#sliders[dimension].label));
    more.hidden = order.length <= FIRST;
    more.querySelector("summary").textContent = `The other ${order.length - FIRST} numbers`;
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

  // Numbers as far apart as those of the data, each drawn by itself: how much of a picture is in how they go together
  randomise() {
    for (const { label, input, output, low, high, deviation } of this.#sliders) {
      input.value = (low + high) / 2 + deviation * gaussian();
      label.classList.add("moved");
      output.textContent = plain(Number(input.value), 2);
    }
    return this.values;
  }

  #slider(low, high, dimension, change) {
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
    return { label, input, output };
  }
}

function gaussian() {
  // Box and Muller, 1958
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}
