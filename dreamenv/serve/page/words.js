// What the page says in sentences.

import { plain } from "./numbers.js";
import { signs } from "./keys.js";

const CAPTIONS = {
  dream: "Every picture is dreamed: M predicts the next numbers, V makes a picture of them. No game is running.",
  real: "The game itself is running. V sees its picture and M remembers. Switch to Dream to dream on from this moment.",
  race: "Both began at the same moment. Your keys act in both; the agent acts in each by what it sees there. A drift of 100% is the distance of two unrelated moments.",
  fan: "Nine futures of the moment you left, each drawn anew. Whoever drives, drives all nine. Choose one to dream on in it.",
  latents: "The picture is these numbers and nothing else; the first ones change it most. Move one, then dream on from what you made.",
};

export function caption({ view, world }) {
  return CAPTIONS[view === "drive" ? world : view];
}

// Whether one drives in this game: it has a key for going forward.
function drives(labels) {
  return "UP" in labels;
}

export function tabName(labels) {
  return drives(labels) ? "Drive" : "Play";
}

export function invitation(labels, agent, touch) {
  const who = agent === "random" ? "Actions are random." : `The agent is ${drives(labels) ? "driving" : "playing"}.`;
  const keys = drives(labels) ? "an arrow key" : signs(labels).join(" or ");
  return `${who} ${touch ? "Touch" : "Press"} ${keys} to take over.`;
}

export function notice({ ended, return: total, world, race, paused }) {
  if (race) return raceNotice(race, ended, total);
  const what = world === "real" ? "The episode" : "The dream";
  if (ended === "terminated") return `${what} ended: return ${plain(total, 0)}`;
  if (ended === "truncated") return `Time is up: return ${plain(total, 0)}`;
  return paused ? "Paused" : "";
}

function raceNotice({ dream_ended: dream, real_ended: real, return: total }, ended, dreamed) {
  if (ended) return `The race is over: ${plain(dreamed, 0)} dreamed, ${plain(total, 0)} real`;
  if (dream) return "The dream ended; the real game goes on";
  return real ? "The real game ended; the dream goes on" : "";
}

// Title, text and button of the dialog when the server has closed the connection for good, by its close code.
export function away(code, reason) {
  const text = `${reason.charAt(0).toUpperCase()}${reason.slice(1)}.`;
  if (code === 1013) return ["No place is free", `${text} This page tries again by itself.`, "Try again now"];
  return [code === 4000 ? "You were away" : "The connection was closed", text, "Come back"];
}
