// Links that hold a moment, and the last seconds as a GIF.

// What a link asks for: seed, temperature, view, world and the moment itself, each if it is there.
export function asked(hash = location.hash) {
  const fields = new URLSearchParams(hash.replace(/^#/, ""));
  const number = (name) => (fields.has(name) && Number.isFinite(Number(fields.get(name))) ? Number(fields.get(name)) : null);
  return { seed: number("seed"), temperature: number("tau"), view: fields.get("view"), moment: fields.get("moment") };
}

// The messages that bring a player to what a link asks for.
export function messagesFor({ seed, temperature, view, moment }) {
  const messages = [];
  if (seed !== null) messages.push({ type: "begin", seed, moment });
  if (temperature !== null) messages.push({ type: "temperature", value: temperature });
  if (view !== null && view !== "drive") messages.push({ type: "view", view });
  return messages;
}

// The link to the moment that the server has described.
export function linkTo({ seed, moment, temperature, view }) {
  const address = new URL(location.href);
  address.hash = new URLSearchParams({ seed, tau: temperature, view, moment });
  return address.href;
}

export async function copy(text) {
  // Without TLS browsers offer no clipboard but on this machine itself
  if (navigator.clipboard?.writeText) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Not allowed: the address bar has it too
    }
  }
  return false;
}

export function save(content, name) {
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(new Blob([content], { type: "image/gif" }));
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 10_000);
}
