// Driving keys from the keyboard and from the pad on the screen, and the keys that are commands.

const DRIVING = {
  ArrowLeft: "LEFT", KeyA: "LEFT",
  ArrowRight: "RIGHT", KeyD: "RIGHT",
  ArrowUp: "UP", KeyW: "UP",
  ArrowDown: "DOWN", KeyS: "DOWN",
};
const SIGNS = { LEFT: "←", RIGHT: "→", UP: "↑", DOWN: "↓" };

export class Keys {
  #held = new Map(); // what holds a key down, by its source, so that two fingers on one key release it once
  #last = "[]";
  #pad;
  #change;

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
    this.#pad.replaceChildren();
    for (const [key, label] of Object.entries(labels)) {
      const button = document.createElement("button");
      const sign = document.createElement("span");
      const word = document.createElement("small");
      sign.textContent = SIGNS[key] ?? key;
      word.textContent = label;
      button.type = "button";
      button.dataset.key = key;
      button.setAttribute("aria-label", label);
      button.setAttribute("aria-pressed", "false");
      button.append(sign, word);
      button.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        button.setPointerCapture(event.pointerId);
        this.#hold(`pointer ${event.pointerId}`, key);
      });
      for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
        button.addEventListener(name, (event) => this.#release(`pointer ${event.pointerId}`));
      }
      button.addEventListener("contextmenu", (event) => event.preventDefault());
      this.#pad.append(button);
    }
  }

  releaseAll() {
    this.#held.clear();
    this.#tell();
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

// Commands by the key's letter; a focused button keeps the space bar for itself.
export function listenForCommands(commands) {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || isSlider(event.target)) return;
    const command = commands[event.key.toLowerCase()];
    if (command === undefined || (event.key === " " && event.target.closest?.("button"))) return;
    event.preventDefault();
    command();
  });
}

function isSlider(element) {
  return element instanceof HTMLInputElement && element.type === "range";
}
