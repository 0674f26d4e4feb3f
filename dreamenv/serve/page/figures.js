// The figures of the present moment, and what to compare the return with.

import { plain, signed } from "./numbers.js";

const $ = (id) => document.getElementById(id);

export class Figures {
  #best = new Map(); // of the player's own finished episodes, by world
  #counted = true;

  // `yardsticks`: mean returns on the real game, by who got them; those that nobody has measured are missing.
  offer(yardsticks) {
    for (const [id, name] of [["agent-return", "agent"], ["random-return", "random"]]) {
      $(id).textContent = name in yardsticks ? plain(yardsticks[name], 0) : "–";
      $(id).parentElement.hidden = !(name in yardsticks);
    }
  }

  show(status) {
    const { world, race } = status;
    $("return-label").textContent = race ? "Return, dream" : "Return";
    $("return").textContent = plain(status.return, 1);
    $("predicted-reward").textContent = signed(status.predicted_reward, 2);
    $("termination").textContent = percent(status.termination_probability);
    $("latents-reward").textContent = signed(status.predicted_reward, 2);
    $("latents-termination").textContent = percent(status.termination_probability);
    if (race) $("real-return").textContent = plain(race.return, 1);
    this.#count(status, race ? race.return : status.return);
    const best = this.#best.get(world === "race" ? "real" : world);
    $("best-return").textContent = best === undefined ? "–" : plain(best, 0);
  }

  #count({ ended, wheel, world }, total) {
    if (ended && !this.#counted && wheel === "human") {
      const here = world === "race" ? "real" : world;
      this.#best.set(here, Math.max(total, this.#best.get(here) ?? -Infinity));
    }
    this.#counted = Boolean(ended);
  }
}

export function percent(share) {
  return `${(100 * share).toFixed(1)}%`;
}
