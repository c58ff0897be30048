// Small words for what every page does with the document.

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
export const page = document.getElementById("main");

// A fresh copy of the first element in a <template>.
export const copy = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

export function show(element, yes = true) {
  if (element) element.hidden = !yes;
}

// Write only when it changes, so that nothing is laid out or read aloud again without need.
export function write(element, text) {
  if (element && element.textContent !== String(text)) element.textContent = text;
}

const SVG = "http://www.w3.org/2000/svg";

export function icon(name, extra = "") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", `icon ${extra}`.trim());
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `/static/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

const WORDS = { queued: "waiting", running: "running", succeeded: "done", failed: "failed", stopped: "stopped", cancelled: "taken out" };

// The badge of a state: icon and word together.
export function showState(badge, state, words = WORDS[state] ?? state) {
  if (badge.dataset.state !== state) {
    badge.dataset.state = state;
    $("svg", badge).replaceWith(icon(state, state === "running" ? "spin" : ""));
  }
  write($("span", badge), words);
}

// A message that goes by itself; with `undo`, a button that takes the thing back. Resolves to true when it was pressed.
export function toast(text, { undo = null, seconds = 6 } = {}) {
  const box = document.createElement("div");
  box.className = "toast";
  const words = document.createElement("span");
  words.textContent = text;
  box.append(words);
  return new Promise((resolve) => {
    const done = (pressed) => { clearTimeout(timer); box.remove(); resolve(pressed); };
    if (undo) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "link-button";
      button.textContent = undo;
      button.onclick = () => done(true);
      box.append(button);
    }
    const wait = () => setTimeout(() => (box.matches(":hover, :focus-within") ? (timer = wait()) : done(false)), seconds * 1000);
    let timer = wait();
    document.getElementById("toasts").append(box);
  });
}

export function bytes(count) {
  if (count < 1000) return `${count} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = count;
  let unit = -1;
  while (value >= 999.5 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

export const loss = (value) => (value === null || value === undefined ? "–" : value.toFixed(4));

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

// Call at most once in `ms`, the last arguments winning.
export function throttled(ms, act) {
  let timer = null;
  let latest = null;
  return (...args) => {
    latest = args;
    timer ??= setTimeout(() => { timer = null; act(...latest); }, ms);
  };
}
