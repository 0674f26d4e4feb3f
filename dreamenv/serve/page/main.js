// The page: what the server says onto the screen, what the player does to the server.

import { Fan } from "./fan.js";
import { Figures } from "./figures.js";
import { freeTheKeyboard, Keys, listenForCommands, signs } from "./keys.js";
import { Latents } from "./latents.js";
import { Kind, Link, throttled } from "./link.js";
import { MixturePicture } from "./mixture.js";
import { Picture, Rate } from "./pictures.js";
import { DriftMeter } from "./race.js";
import { asked, copy, linkTo, messagesFor, save } from "./share.js";
import { Tour } from "./tour.js";
import { away, caption, invitation, notice, tabName } from "./words.js";

const MESSAGE_PAUSE = 50; // milliseconds between two messages of one slider
const TOAST_SECONDS = 6;
const WORLDS = ["dream", "real", "race"];
const SAID_BY_DIALOG = new Set(["full", "idle", "refused"]);

const $ = (id) => document.getElementById(id);
const link = new Link();
const dream = new Picture($("dream"));
const pictures = {
  [Kind.dream]: dream,
  [Kind.latent]: new Picture($("decoded")),
  [Kind.real]: new Picture($("real"), $("frame")),
};
const mixture = new MixturePicture($("mixture"));
const figures = new Figures();
const drift = new DriftMeter();
const pictureRate = new Rate();
const keys = new Keys($("pad"), (held) => link.send({ type: "keys", keys: held }));
const tour = new Tour(send);
const touch = matchMedia("(hover: none)");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let hello = null;
let status = null;
let latents = null;
let showsMixture = false;
let wanted = asked();

// From the server

link.addEventListener("hello", ({ detail }) => {
  hello = detail;
  setLink("open");
  document.title = `Inside ${hello.id}`;
  $("dream-id").textContent = hello.id;
  $("real-id").textContent = hello.real_id;
  $("away").close();
  $("toast").hidden = true;
  keys.offer(hello.keys);
  figures.offer(hello.yardsticks);
  tour.offer(hello);
  pictures[Kind.fan] = new Fan($("scene-fan"), hello.futures, (future) => link.send({ type: "take", future }));
  latents = new Latents($("latents"), { limits: hello.slider_limits, order: hello.latent_order, deviations: hello.slider_deviations }, edit);
  setSlider("temperature", hello.temperature, hello.temperatures);
  setSlider("rate", hello.rate, hello.rates);
  button("view", "drive").textContent = tabName(hello.keys);
  $("driving-hint").replaceChildren(...signs(hello.keys).flatMap((sign) => [keyCap(sign), " "]), tabName(hello.keys).toLowerCase());
  for (const element of [button("view", "latents"), $("latents-hint")]) element.hidden = hello.slider_limits.length === 0;
  for (const element of [$("mixture-toggle"), $("mixture-hint")]) element.hidden = !hello.has_mixture;
  for (const world of ["real", "race"]) button("world", world).disabled = !hello.real_allowed;
  $("latents-frame").hidden = !hello.real_allowed;
  button("wheel", "agent").title = `agent: ${hello.agent}`;
  $("documentation").hidden = !hello.documentation;
  if (hello.documentation) $("documentation").href = hello.documentation;
  if (calm.matches) link.send({ type: "pause", paused: true });
  if (showsMixture) link.send({ type: "mixture", shown: true });
  messagesFor(wanted).forEach(send);
  wanted = asked("");
  watch();
});

link.addEventListener("status", ({ detail }) => {
  status = detail;
  const { body } = document;
  body.dataset.view = status.view;
  body.dataset.world = status.world;
  body.dataset.wheel = status.wheel;
  body.dataset.step = status.step;
  body.dataset.fanStep = status.fan?.step ?? 0;
  body.dataset.stepsPerSecond = status.steps_per_second;
  for (const view of ["drive", "fan", "latents"]) $(`scene-${view}`).hidden = view !== status.view;
  $("latents").hidden = status.view !== "latents";
  $("frame-figure").hidden = status.world === "dream";
  press("view", status.view);
  press("world", status.world);
  press("wheel", status.wheel);
  keys.tapMilliseconds = 1200 / status.rate;
  $("temperature").disabled = status.world === "real" && status.view === "drive";
  $("pause").textContent = status.paused ? "Resume" : "Pause";
  $("caption").textContent = caption(status);
  $("dream-caption").textContent = status.world === "race" ? "The dream" : "As the model sees it";
  figures.show(status);
  drift.show(status.race, status.step);
  tell("notice", notice(status));
  tell("invitation", status.wheel === "agent" ? invitation(hello.keys, hello.agent, touch.matches) : "");
  if (status.fan !== null) pictures[Kind.fan].tell(status.fan);
});

link.addEventListener("latent", ({ detail }) => latents.show(detail.values));

link.addEventListener("place", async ({ detail }) => {
  const address = linkTo({ ...detail, temperature: status.temperature, view: status.view });
  history.replaceState(null, "", address);
  toast((await copy(address)) ? "The link to this moment is copied" : "The link to this moment is in the address bar");
});

link.addEventListener("binary", ({ detail: { kind, content } }) => {
  if (kind === Kind.mixture) mixture.show(content, hello.latent_size);
  else if (kind === Kind.clip) save(content, `${hello.id}.gif`.replaceAll(/[/\\]/g, "-"));
  else pictures[kind]?.show(content);
  if (kind === Kind.dream || kind === Kind.fan) pictureRate.count();
});

link.addEventListener("error", ({ detail: { code, message } }) => SAID_BY_DIALOG.has(code) || toast(message));

link.addEventListener("lost", ({ detail }) => {
  setLink(detail.away ? "away" : "lost");
  keys.releaseAll();
  if (!detail.away) return toast("The connection is lost; trying again …", Infinity);
  const [title, text, act] = away(detail.code, detail.reason);
  $("away-title").textContent = title;
  $("away-text").textContent = text;
  $("come-back").textContent = act;
  if (!$("away").open) $("away").showModal();
});

// To the server

const pause = () => link.send({ type: "pause", paused: !status.paused });
const step = () => link.send({ type: "step" });
const reset = () => link.send({ type: "reset" });
const look = (view) => link.send({ type: "view", view: view === status.view ? "drive" : view });
const enter = (world) => {
  if (status.world === "dream" && world !== "dream") toast("Starting the real game …");
  link.send({ type: "world", world });
};
const handOver = (wheel) => link.send({ type: "wheel", wheel });
const edit = throttled(MESSAGE_PAUSE, (values) => link.send({ type: "latent", values }));
const sendTemperature = throttled(MESSAGE_PAUSE, (value) => link.send({ type: "temperature", value }));
const sendRate = throttled(MESSAGE_PAUSE, (value) => link.send({ type: "rate", value }));

// Of tours and links, which do not move the slider themselves
function send(message) {
  if (message.type === "temperature") setSlider("temperature", message.value, hello.temperatures);
  link.send(message);
}

function nextWorld() {
  if (hello.real_allowed) enter(WORLDS[(WORLDS.indexOf(status.world) + 1) % WORLDS.length]);
}

function showMixture() {
  showsMixture = !showsMixture;
  $("mixture-figure").hidden = !showsMixture;
  $("mixture-toggle").setAttribute("aria-expanded", String(showsMixture));
  $("mixture-toggle").textContent = showsMixture ? "Hide mixture" : "Show mixture";
  link.send({ type: "mixture", shown: showsMixture });
}

function nudgeTemperature(change) {
  const slider = $("temperature");
  if (slider.disabled) return;
  slider.value = Number(slider.value) + change;
  slider.dispatchEvent(new Event("input"));
}

for (const [name, act] of [["view", look], ["world", enter], ["wheel", handOver]]) {
  for (const element of document.querySelectorAll(`[data-${name}-button]`)) {
    element.addEventListener("click", () => act(element.dataset[`${name}Button`]));
  }
}
for (const [id, act] of [
  ["pause", pause], ["step", step], ["reset", reset], ["mixture-toggle", showMixture],
  ["latents-back", () => link.send({ type: "view", view: "latents" })],
  ["latents-on", () => link.send({ type: "dream_on" })],
  ["latents-random", () => edit(latents.randomise())],
  ["latents-frame", () => link.send({ type: "real_frame" })],
  ["catch-up", () => link.send({ type: "catch_up" })],
  ["share", () => link.send({ type: "share" })],
  ["clip", () => link.send({ type: "clip" })],
  ["come-back", () => link.open()],
]) $(id).addEventListener("click", act);
$("temperature").addEventListener("input", ({ target }) => {
  $("temperature-value").textContent = Number(target.value).toFixed(2);
  sendTemperature(Number(target.value));
});
$("rate").addEventListener("input", ({ target }) => {
  $("rate-value").textContent = speed(target.value);
  sendRate(Number(target.value));
});
freeTheKeyboard();
listenForCommands({
  " ": pause, p: pause, ".": step, r: reset, t: nextWorld,
  h: () => handOver(status.wheel === "human" ? "agent" : "human"),
  f: () => look("fan"),
  l: () => hello.slider_limits.length && look("latents"),
  m: () => hello.has_mixture && showMixture(),
  "[": () => nudgeTemperature(-0.05), "]": () => nudgeTemperature(0.05),
}, () => status !== null && link.isOpen);

// Onto the screen

function button(name, value) {
  return document.querySelector(`[data-${name}-button="${value}"]`);
}

function press(name, value) {
  for (const element of document.querySelectorAll(`[data-${name}-button]`)) {
    element.setAttribute("aria-pressed", String(element.dataset[`${name}Button`] === value));
  }
}

function setLink(state) {
  document.body.dataset.link = state;
  // What cannot be answered cannot be pressed
  for (const element of document.querySelectorAll(".needs-link")) element.inert = state !== "open";
}

function setSlider(id, value, [low, high]) {
  Object.assign($(id), { min: low, max: high, value });
  $(`${id}-value`).textContent = id === "rate" ? speed(value) : value.toFixed(2);
}

function speed(rate) {
  return `${rate} steps a second`;
}

function keyCap(sign) {
  const element = document.createElement("kbd");
  element.textContent = sign;
  return element;
}

function tell(id, text) {
  $(id).hidden = text === "";
  if ($(id).textContent !== text) $(id).textContent = text;
}

let toastTimer = null;
function toast(text, seconds = TOAST_SECONDS) {
  tell("toast", text);
  clearTimeout(toastTimer);
  if (Number.isFinite(seconds)) toastTimer = setTimeout(() => ($("toast").hidden = true), 1000 * seconds);
}

setInterval(() => {
  document.body.dataset.pictures = String(dream.drawn);
  document.body.dataset.picturesPerSecond = pictureRate.value().toFixed(1);
}, 250);

// Who looks at the page is not away, though nothing is pressed
let watchTimer = null;
function watch() {
  clearTimeout(watchTimer);
  if (!document.hidden) link.send({ type: "here" });
  watchTimer = setTimeout(watch, 1000 * Math.min(hello.idle_seconds / 3, 30));
}

// A page that the browser keeps for the way back does not keep its place
addEventListener("pagehide", () => link.close());
addEventListener("pageshow", ({ persisted }) => persisted && link.open());
setLink("opening");
link.open();
