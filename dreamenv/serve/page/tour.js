// A tour in five captions. Each stop asks the server for what it talks about.

const STOPS = [
  {
    title: "1 of 5: The real game",
    text: "On the right the game itself is running and the agent drives. Nothing is dreamed yet.",
    world: "real",
    view: "drive",
  },
  {
    title: "2 of 5: V, the vision model",
    text: "V keeps a few numbers of each picture. On the left is the picture that it makes of them: this is all that the agent knows of what is in sight.",
    world: "real",
    view: "latents",
    frame: true,
  },
  {
    title: "3 of 5: M, the memory model",
    text: "Now the game is off. M predicts the next numbers from what it remembers and from what the driver does, and V makes pictures of them. Press a driving key: the dream obeys.",
    world: "dream",
    view: "drive",
    temperature: 1,
  },
  {
    title: "4 of 5: τ, the temperature",
    text: "M does not predict one future but a spread of them, and τ says how far it strays. At 2 the dream gets wild; these are nine futures of one moment.",
    world: "dream",
    view: "fan",
    temperature: 2,
  },
  {
    title: "5 of 5: Exploitation",
    text: "Dream and game side by side from one moment. The dream drifts away. An agent that trains in a dream can learn to score where M is wrong, so compare the two returns: only the real one counts.",
    world: "race",
    view: "drive",
    temperature: 1,
  },
];

const $ = (id) => document.getElementById(id);

export class Tour {
  #stop = 0;
  #send;
  #hello = null;

  constructor(send) {
    this.#send = send;
    $("tour-begin").addEventListener("click", () => this.#go(0));
    $("tour-next").addEventListener("click", () => this.#go(this.#stop + 1));
    $("tour-back").addEventListener("click", () => this.#go(this.#stop - 1));
    $("tour-end").addEventListener("click", () => this.end());
    $("tour").addEventListener("keydown", ({ key }) => key === "Escape" && this.end());
  }

  // `hello`: what the server offers.
  offer(hello) {
    this.#hello = hello;
  }

  end() {
    $("tour").hidden = true;
    this.#send({ type: "world", world: "dream" });
    this.#send({ type: "temperature", value: this.#hello.temperature });
    $("tour-begin").focus();
  }

  #go(stop) {
    if (stop >= STOPS.length) return this.end();
    this.#stop = Math.max(0, stop);
    const { title, text, world, view, temperature, frame } = STOPS[this.#stop];
    $("tour-title").textContent = title;
    $("tour-text").textContent = text;
    $("tour-back").disabled = this.#stop === 0;
    $("tour-next").textContent = this.#stop === STOPS.length - 1 ? "Finish" : "Next";
    $("tour").hidden = false;
    $("tour-title").focus();
    this.#show(world, view, temperature, frame);
  }

  #show(world, view, temperature, frame) {
    const { real_allowed: realAllowed, slider_limits: limits } = this.#hello;
    const shown = view === "latents" && limits.length === 0 ? "drive" : view;
    this.#send({ type: "wheel", wheel: "agent" });
    this.#send({ type: "pause", paused: false });
    if (temperature !== undefined) this.#send({ type: "temperature", value: temperature });
    this.#send({ type: "world", world: realAllowed ? world : "dream" });
    this.#send({ type: "view", view: shown });
    if (frame && shown === "latents" && realAllowed) this.#send({ type: "real_frame" });
  }
}
