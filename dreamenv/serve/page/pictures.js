// Pictures onto canvases: the newest one wins when they come faster than they are decoded.

export class Picture {
  #canvases;
  #waiting = null;
  #busy = false;

  // The same picture on all of `canvases`.
  constructor(...canvases) {
    this.drawn = 0;
    this.#canvases = canvases;
  }

  show(content) {
    this.#waiting = content;
    if (!this.#busy) this.#work();
  }

  async #work() {
    this.#busy = true;
    while (this.#waiting !== null) {
      const content = this.#waiting;
      this.#waiting = null;
      try {
        const bitmap = await createImageBitmap(new Blob([content], { type: "image/webp" }));
        this.paint(bitmap);
        bitmap.close();
        this.drawn += 1;
      } catch {
        // A picture that cannot be read is left out; the next one comes soon
      }
    }
    this.#busy = false;
  }

  paint(bitmap) {
    for (const canvas of this.#canvases) {
      if (canvas.width !== bitmap.width) [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
      canvas.getContext("2d", { alpha: false }).drawImage(bitmap, 0, 0);
    }
  }
}

// How many of something come a second, over the last two seconds.
export class Rate {
  #times = [];

  count(now = performance.now()) {
    this.#times.push(now);
    while (now - this.#times[0] > 2000) this.#times.shift();
  }

  value(now = performance.now()) {
    const recent = this.#times.filter((time) => now - time <= 2000);
    return recent.length < 2 ? 0 : ((recent.length - 1) * 1000) / (recent.at(-1) - recent[0]);
  }
}
