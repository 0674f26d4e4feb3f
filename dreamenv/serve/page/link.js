// The websocket: JSON out, JSON and binary messages in, and coming back after it was lost.

export const Kind = { dream: 1, real: 2, fan: 3, latent: 4, mixture: 5, clip: 6 };

// After these the server does not want to be asked again at once.
const SENT_AWAY = new Set([1008, 1013, 4000]);
const FULL = 1013;
const WAIT_WHEN_FULL = 10_000;
const FIRST_WAIT = 500;
const LONGEST_WAIT = 8000;

export class Link extends EventTarget {
  #socket = null;
  #wait = FIRST_WAIT;
  #reason = "";
  #timer = null;

  open() {
    clearTimeout(this.#timer);
    this.#reason = "";
    const address = new URL("play", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code }) => this.#closed(socket, code);
    this.#socket = socket;
  }

  // Without a word to the page, for when it is put aside
  close() {
    const socket = this.#socket;
    this.#socket = null;
    clearTimeout(this.#timer);
    socket?.close();
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  send(message) {
    if (this.isOpen) this.#socket.send(JSON.stringify(message));
  }

  #receive(data) {
    if (typeof data !== "string") {
      const kind = new Uint8Array(data, 0, 1)[0];
      this.#tell("binary", { kind, content: data.slice(1) });
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "hello") this.#wait = FIRST_WAIT;
    if (message.type === "error") this.#reason = message.message;
    this.#tell(message.type, message);
  }

  #closed(socket, code) {
    if (socket !== this.#socket) return;
    const away = SENT_AWAY.has(code);
    this.#tell("lost", { away, code, reason: away ? this.#reason : "" });
    if (away && code !== FULL) return;
    this.#timer = setTimeout(() => this.open(), away ? WAIT_WHEN_FULL : this.#wait);
    if (!away) this.#wait = Math.min(2 * this.#wait, LONGEST_WAIT);
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

// Lets at most one call through in `milliseconds`, and always the last one.
export function throttled(milliseconds, act) {
  let timer = null;
  let latest = null;
  return (...values) => {
    latest = values;
    if (timer !== null) return;
    act(...latest);
    latest = null;
    timer = setTimeout(function again() {
      timer = null;
      if (latest === null) return;
      act(...latest);
      latest = null;
      timer = setTimeout(again, milliseconds);
    }, milliseconds);
  };
}
