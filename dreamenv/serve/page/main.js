// The page: what the server says onto the screen, what the player does to the server.

import { Fan } from "./fan.js";
import { Keys, listenForCommands } from "./keys.js";
import { Latents } from "./latents.js";
import { Kind, Link, throttled } from "./link.js";
import { MixturePicture } from "./mixture.js";
import { plain, signed } from "./numbers.js";
import { Picture, Rate } from "./pictures.js";

const MESSAGE_PAUSE = 50; // milliseconds between two messages of one slider
const TOAST_SECONDS = 6;
const CAPTIONS = {
  dream: "Every picture is dreamed. M draws the next latent numbers from what it remembers and from what you do; V makes a picture of them. No game is running.",
  real: "The game itself is running. V sees its picture, M remembers, and both say what they expect. Go back to the dream to dream on from this very moment.",
  fan: "Nine futures of the moment you left, each drawn anew. Whoever is at the wheel drives all nine. Choose one to dream on in it.",
  latents: "The picture is these numbers and nothing else. Move one to see what V keeps there, then dream on from what you made.",
};

const $ = (id) => document.getElementById(id);
const link = new Link();
const dream = new Picture($("dream"));
const real = new Picture($("real"));
const decoded = new Picture($("decoded"));
const mixture = new MixturePicture($("mixture"));
const pictureRate = new Rate();
const keys = new Keys($("pad"), (held) => link.send({ type: "keys", keys: held }));
let hello = null;
let status = { view: "drive", world: "dream", wheel: "human", paused: false, temperature: 1 };
let fan = null;
let latents = null;
let showsMixture = false;

// From the server

link.addEventListener("hello", ({ detail }) => {
  hello = detail;
  document.body.dataset.link = "open";
  document.title = `Inside ${hello.id}`;
  $("dream-id").textContent = hello.id;
  $("real-id").textContent = hello.real_id;
  $("away").close();
  keys.offer(hello.keys);
  fan = new Fan($("scene-fan"), hello.futures, (future) => link.send({ type: "take", future }));
  const edit = throttled(MESSAGE_PAUSE, (values) => link.send({ type: "latent", values }));
  latents = new Latents($("latent-sliders"), hello.slider_limits, edit);
  setSlider("temperature", hello.temperature, hello.temperatures);
  setSlider("rate", hello.rate, hello.rates);
  button("view", "latents").hidden = hello.slider_limits.length === 0;
  $("mixture-toggle").hidden = !hello.has_mixture;
  button("world", "real").disabled = !hello.real_allowed;
  button("wheel", "agent").title = `agent: ${hello.agent}`;
  if (showsMixture) link.send({ type: "mixture", shown: true });
});

link.addEventListener("status", ({ detail }) => {
  status = detail;
  const { body } = document;
  body.dataset.view = status.view;
  body.dataset.world = status.world;
  body.dataset.step = status.step;
  body.dataset.fanStep = status.fan?.step ?? 0;
  for (const view of ["drive", "fan", "latents"]) $(`scene-${view}`).hidden = view !== status.view;
  $("latent-sliders").hidden = status.view !== "latents";
  press("view", status.view);
  press("world", status.world);
  press("wheel", status.wheel);
  $("pause").setAttribute("aria-pressed", String(status.paused));
  $("pause").textContent = status.paused ? "Go on" : "Pause";
  $("caption").textContent = CAPTIONS[status.view === "drive" ? status.world : status.view];
  $("return").textContent = plain(status.return, 1);
  $("predicted-reward").textContent = signed(status.predicted_reward, 2);
  $("termination").textContent = `${(100 * status.termination_probability).toFixed(1)}%`;
  $("steps-per-second").textContent = status.steps_per_second.toFixed(1);
  $("notice").hidden = !status.ended;
  $("notice").textContent = ended(status);
  if (status.fan !== null) fan?.tell(status.fan);
});

link.addEventListener("latent", ({ detail }) => latents?.show(detail.values));

link.addEventListener("binary", ({ detail: { kind, content } }) => {
  if (kind === Kind.mixture) mixture.show(content, hello.latent_size);
  else ({ [Kind.dream]: dream, [Kind.real]: real, [Kind.fan]: fan, [Kind.latent]: decoded })[kind]?.show(content);
  if (kind === Kind.dream || kind === Kind.fan) pictureRate.count();
});

link.addEventListener("error", ({ detail }) => toast(detail.message));

link.addEventListener("lost", ({ detail: { away, reason } }) => {
  document.body.dataset.link = away ? "away" : "lost";
  keys.releaseAll();
  if (!away) return toast("The line is lost; trying again …");
  $("away-text").textContent = `${reason.charAt(0).toUpperCase()}${reason.slice(1)}.`;
  if (!$("away").open) $("away").showModal();
});

// To the server

const pause = () => link.send({ type: "pause", paused: !status.paused });
const step = () => link.send({ type: "step" });
const reset = () => link.send({ type: "reset" });
const look = (view) => link.send({ type: "view", view: view === status.view ? "drive" : view });
const enter = (world) => {
  if (world === "real") toast("Starting the real game …");
  link.send({ type: "world", world });
};
const handOver = (wheel) => link.send({ type: "wheel", wheel });
const sendTemperature = throttled(MESSAGE_PAUSE, (value) => link.send({ type: "temperature", value }));
const sendRate = throttled(MESSAGE_PAUSE, (value) => link.send({ type: "rate", value }));

function showMixture() {
  showsMixture = !showsMixture;
  $("mixture-figure").hidden = !showsMixture;
  $("mixture-toggle").setAttribute("aria-expanded", String(showsMixture));
  $("mixture-toggle").textContent = showsMixture ? "Hide the mixture" : "Show the mixture";
  link.send({ type: "mixture", shown: showsMixture });
}

function nudgeTemperature(change) {
  const slider = $("temperature");
  slider.value = Number(slider.value) + change;
  slider.dispatchEvent(new Event("input"));
}

for (const [name, act] of [["view", look], ["world", enter], ["wheel", handOver]]) {
  for (const element of document.querySelectorAll(`[data-${name}-button]`)) {
    element.addEventListener("click", () => act(element.dataset[`${name}Button`]));
  }
}
$("pause").addEventListener("click", pause);
$("step").addEventListener("click", step);
$("reset").addEventListener("click", reset);
$("mixture-toggle").addEventListener("click", showMixture);
$("latents-back").addEventListener("click", () => link.send({ type: "view", view: "latents" }));
$("latents-on").addEventListener("click", () => link.send({ type: "dream_on" }));
$("come-back").addEventListener("click", () => link.open());
$("temperature").addEventListener("input", ({ target }) => {
  $("temperature-value").textContent = Number(target.value).toFixed(2);
  sendTemperature(Number(target.value));
});
$("rate").addEventListener("input", ({ target }) => {
  $("rate-value").textContent = speed(target.value);
  sendRate(Number(target.value));
});
// A slider moved by hand gives the arrow keys back to the wheel
addEventListener("pointerup", ({ target }) => target instanceof HTMLInputElement && target.blur());

listenForCommands({
  " ": pause, p: pause, ".": step, r: reset,
  h: () => handOver(status.wheel === "human" ? "agent" : "human"),
  t: () => enter(status.world === "dream" ? "real" : "dream"),
  f: () => look("fan"),
  l: () => hello?.slider_limits.length && look("latents"),
  m: () => hello?.has_mixture && showMixture(),
  "[": () => nudgeTemperature(-0.05), "]": () => nudgeTemperature(0.05),
});

function button(name, value) {
  return document.querySelector(`[data-${name}-button="${value}"]`);
}

function press(name, value) {
  for (const element of document.querySelectorAll(`[data-${name}-button]`)) {
    element.setAttribute("aria-pressed", String(element.dataset[`${name}Button`] === value));
  }
}

function setSlider(id, value, [low, high]) {
  Object.assign($(id), { min: low, max: high, value });
  $(`${id}-value`).textContent = id === "rate" ? speed(value) : value.toFixed(2);
}

function speed(rate) {
  return `${rate} steps a second`;
}

function ended({ ended: how, return: total, world }) {
  const what = world === "real" ? "The episode" : "The dream";
  if (how === "terminated") return `${what} ended: return ${plain(total, 0)}`;
  return how === "truncated" ? `Time is up: return ${plain(total, 0)}` : "";
}

let toastTimer = null;
function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => ($("toast").hidden = true), 1000 * TOAST_SECONDS);
}

setInterval(() => {
  document.body.dataset.pictures = String(dream.drawn);
  document.body.dataset.picturesPerSecond = pictureRate.value().toFixed(1);
}, 250);

// A page that the browser keeps for the way back does not keep its place
addEventListener("pagehide", () => link.close());
addEventListener("pageshow", ({ persisted }) => persisted && link.open());
link.open();
