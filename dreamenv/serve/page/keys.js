// Driving keys from the keyboard and from the pad on the screen, and the keys that are commands.

const DRIVING = {
  ArrowLeft: "LEFT", KeyA: "LEFT",
  ArrowRight: "RIGHT", KeyD: "RIGHT",
  ArrowUp: "UP", KeyW: "UP",
  ArrowDown: "DOWN", KeyS: "DOWN",
};
const SIGNS = { LEFT: "←", RIGHT: "→", UP: "↑", DOWN: "↓" };
const POINTED_WITHIN = 1000; // milliseconds in which a click belongs to the pointer that was handled already

export class Keys {
  #held = new Map(); // what holds a key down, by its source, so that two fingers on one key release it once
  #last = "[]";
  #pad;
  #change;
  tapMilliseconds = 100; // how long a click of an assistive technology holds a key: about one step

  constructor(pad, change) {
    this.#pad = pad;
    this.#change = change;
    addEventListener("keydown", (event) => this.#keydown(event));
    addEventListener("keyup", (event) => this.#release(event.code));
    addEventListener("blur", () => this.releaseAll());
    document.addEventListener("visibilitychange", () => document.hidden && this.releaseAll());
  }

  // `labels`: what each key does in this dream, by key.
  offer(labels) {
    this.#pad.replaceChildren(...Object.entries(labels).map(([key, label]) => this.#button(key, label)));
    this.#pad.dataset.steering = String(Object.keys(labels).every((key) => key in SIGNS));
  }

  releaseAll() {
    this.#held.clear();
    this.#tell();
  }

  #button(key, label) {
    const button = document.createElement("button");
    const sign = document.createElement("span");
    const word = document.createElement("small");
    sign.textContent = SIGNS[key] ?? key;
    sign.setAttribute("aria-hidden", "true");
    word.textContent = label;
    button.type = "button";
    button.dataset.key = key;
    button.setAttribute("aria-pressed", "false");
    button.append(sign, word);
    let pointed = -Infinity;
    button.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      button.setPointerCapture(event.pointerId);
      pointed = event.timeStamp;
      this.#hold(`pointer ${event.pointerId}`, key);
    });
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
      button.addEventListener(name, (event) => {
        pointed = event.timeStamp;
        this.#release(`pointer ${event.pointerId}`);
      });
    }
    button.addEventListener("contextmenu", (event) => event.preventDefault());
    button.addEventListener("keydown", (event) => {
      if (!isPress(event)) return;
      event.preventDefault();
      this.#hold(`button ${key}`, key);
    });
    button.addEventListener("keyup", (event) => {
      if (!isPress(event)) return;
      event.preventDefault();
      this.#release(`button ${key}`);
    });
    button.addEventListener("blur", () => this.#release(`button ${key}`));
    // A screen reader clicks without pointer and without key
    button.addEventListener("click", (event) => {
      if (event.timeStamp - pointed < POINTED_WITHIN) return;
      this.#hold(`tap ${key}`, key);
      setTimeout(() => this.#release(`tap ${key}`), this.tapMilliseconds);
    });
    return button;
  }

  #keydown(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || isSlider(event.target)) return;
    const key = DRIVING[event.code] ?? (/^Digit\d$/.test(event.code) ? event.code.at(-1) : null);
    if (key === null || this.#pad.querySelector(`[data-key="${key}"]`) === null) return;
    event.preventDefault();
    this.#hold(event.code, key);
  }

  #hold(source, key) {
    this.#held.set(source, key);
    this.#tell();
  }

  #release(source) {
    if (this.#held.delete(source)) this.#tell();
  }

  #tell() {
    const keys = [...new Set(this.#held.values())].sort();
    const shown = JSON.stringify(keys);
    if (shown === this.#last) return;
    this.#last = shown;
    for (const button of this.#pad.children) button.setAttribute("aria-pressed", String(keys.includes(button.dataset.key)));
    this.#change(keys);
  }
}

// The signs on the keys that do something, such as "← →".
export function signs(labels) {
  return Object.keys(labels).map((key) => SIGNS[key] ?? key);
}

// Commands by the key's letter, while `ready()`; what has the focus keeps the space bar for itself.
export function listenForCommands(commands, ready) {
  addEventListener("keydown", (event) => {
    if (!ready()) return;
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || isSlider(event.target)) return;
    const command = commands[event.key.toLowerCase()];
    const kept = event.key === " " && event.target.closest?.("button, summary, a, dialog");
    if (command === undefined || kept) return;
    event.preventDefault();
    command();
  });
}

// What was used with mouse or finger gives the keyboard back to the wheel: Space would press the button again.
export function freeTheKeyboard() {
  const free = ({ target }) => target.closest?.("button, input, summary")?.blur();
  addEventListener("pointerup", free);
  addEventListener("click", (event) => event.detail > 0 && free(event));
}

function isPress({ key, ctrlKey, metaKey, altKey }) {
  return (key === " " || key === "Enter") && !ctrlKey && !metaKey && !altKey;
}

function isSlider(element) {
  return element instanceof HTMLInputElement && element.type === "range";
}
