// The drift meter of a race: how far the dream is from the real game, now and since the start.

const MOST_POINTS = 400;
const $ = (id) => document.getElementById(id);

export class DriftMeter {
  #points = [];
  #step = -1;

  // `race` of a status, null outside races.
  show(race, step) {
    if (race === null) {
      this.#points = [];
      this.#step = -1;
      return;
    }
    $("drift").value = race.drift;
    $("drift-value").textContent = `${Math.round(100 * race.drift)}%`;
    if (step === this.#step) return;
    if (step < this.#step) this.#points = [];
    this.#step = step;
    this.#points.push(race.drift);
    if (this.#points.length > MOST_POINTS) this.#points.shift();
    this.#draw();
  }

  #draw() {
    const canvas = $("drift-line");
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (width === 0) return;
    [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const colours = getComputedStyle(document.documentElement);
    context.fillStyle = colours.getPropertyValue("--line");
    context.fillRect(0, 1, width, 1);
    context.fillRect(0, height - 1, width, 1);
    context.strokeStyle = colours.getPropertyValue("--warm");
    context.lineWidth = 2;
    context.beginPath();
    const step = width / Math.max(this.#points.length - 1, 60);
    this.#points.forEach((drift, place) => {
      context.lineTo(place * step, height - 2 - Math.min(drift, 1) * (height - 4));
    });
    context.stroke();
  }
}
