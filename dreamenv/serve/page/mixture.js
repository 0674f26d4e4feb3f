// The mixture's components as a picture: a column for each latent number, a bar for each Gaussian.

const REACH = 4; // standard deviations of the data that fit above and below the middle

export class MixturePicture {
  constructor(canvas) {
    this.canvas = canvas;
    this.drawn = 0;
  }

  // `content`: weights, means and standard deviations of K components, then what came; rows of Z float32.
  show(content, latentSize) {
    const numbers = new Float32Array(content);
    const components = (numbers.length / latentSize - 1) / 3;
    const row = (index) => numbers.subarray(index * latentSize, (index + 1) * latentSize);
    const { context, width, height } = this.#clear();
    const colours = getComputedStyle(document.documentElement);
    const [accent, warm, line] = ["--accent", "--warm", "--line"].map((name) => colours.getPropertyValue(name));
    const column = width / latentSize;
    const place = (value) => height / 2 - (Math.max(-REACH, Math.min(REACH, value)) / REACH) * (height / 2 - 2);

    context.fillStyle = line;
    for (const value of [-2, 0, 2]) context.fillRect(0, place(value), width, value === 0 ? 1 : 0.5);
    context.fillStyle = accent;
    for (let k = 0; k < components; k += 1) {
      const [weights, means, deviations] = [row(k), row(components + k), row(2 * components + k)];
      for (let z = 0; z < latentSize; z += 1) {
        const [top, bottom] = [place(means[z] + deviations[z]), place(means[z] - deviations[z])];
        context.globalAlpha = Math.max(0.03, weights[z] * 0.85);
        context.fillRect(z * column + column * 0.15, top, column * 0.7, Math.max(1.5, bottom - top));
      }
    }
    context.globalAlpha = 1;
    context.fillStyle = warm;
    const came = row(3 * components);
    for (let z = 0; z < latentSize; z += 1) {
      context.beginPath();
      context.arc((z + 0.5) * column, place(came[z]), Math.min(2.4, column * 0.35), 0, 2 * Math.PI);
      context.fill();
    }
    this.drawn += 1;
  }

  #clear() {
    const { canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    return { context, width, height };
  }
}
