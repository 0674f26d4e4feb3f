// Nine futures of one moment: a sheet of three by three pictures, cut onto nine buttons.

import { signed } from "./numbers.js";
import { Picture } from "./pictures.js";

const SIDE = 3;

export class Fan extends Picture {
  #cells = [];

  constructor(scene, futures, choose) {
    super();
    scene.replaceChildren();
    for (let future = 0; future < futures; future += 1) {
      const button = document.createElement("button");
      const canvas = document.createElement("canvas");
      const label = document.createElement("span");
      canvas.width = canvas.height = 64;
      button.type = "button";
      button.append(canvas, label);
      button.addEventListener("click", () => choose(future));
      scene.append(button);
      this.#cells.push({ button, label, context: canvas.getContext("2d", { alpha: false }) });
    }
    this.#cells.forEach(({ button }, future) => button.setAttribute("aria-label", `Dream on in future ${future + 1}`));
  }

  paint(sheet) {
    const size = sheet.width / SIDE;
    this.#cells.forEach(({ context }, future) => {
      const [left, top] = [(future % SIDE) * size, Math.floor(future / SIDE) * size];
      context.drawImage(sheet, left, top, size, size, 0, 0, 64, 64);
    });
  }

  tell({ returns, alive }) {
    this.#cells.forEach(({ button, label }, future) => {
      button.dataset.ended = String(!alive[future]);
      label.textContent = (alive[future] ? "" : "ended ") + signed(returns[future], 1);
      button.setAttribute("aria-label", `Dream on in future ${future + 1}: return ${label.textContent}`);
    });
  }
}
