// Short names for what every page does with the document.

import { wording } from "./wording.js";

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
export const page = document.getElementById("main");

// A fresh copy of the first element in a <template>.
export const copy = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

// Make the children of `list` those of `fresh`, in their order. One whose data-key is there already stays, and is given to
// `update(known, fresh)`: so focus, open folds and loaded pictures remain.
export function reconcile(list, fresh, update = () => {}) {
  const known = new Map([...list.children].map((one) => [one.dataset.key, one]));
  const wanted = [...fresh.children].map((one) => {
    const same = known.get(one.dataset.key);
    if (same) update(same, one);
    return same ?? one;
  });
  for (const one of known.values()) if (!wanted.includes(one)) one.remove();
  wanted.forEach((one, place) => {
    if (list.children[place] !== one) list.insertBefore(one, list.children[place] ?? null);
  });
}

export function show(element, yes = true) {
  if (element) element.hidden = !yes;
}

// Write only when the text changes, so that nothing is laid out or read aloud again without need.
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

// The badge of a state: icon and word together.
export function showState(badge, state) {
  if (badge.dataset.state !== state) {
    badge.dataset.state = state;
    $("svg", badge).replaceWith(icon(state, state === "running" ? "spin" : ""));
  }
  write($("span", badge), wording.states[state] ?? state);
}

// A message that disappears after `seconds`; with `undo`, it has a button of that label. Resolves to true when pressed.
// One `about` the same takes the place of the earlier: an undo in that one would take back something else by now.
export function toast(text, { undo = null, seconds = 6, about = null } = {}) {
  const box = document.createElement("div");
  box.className = "toast";
  if (about) {
    box.dataset.about = about;
    for (const earlier of document.querySelectorAll(`.toast[data-about="${about}"]`)) earlier.remove();
  }
  const message = document.createElement("span");
  message.textContent = text;
  box.append(message);
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

// Call at most once in `ms`, with the latest arguments.
export function throttled(ms, act) {
  let timer = null;
  let latest = null;
  return (...args) => {
    latest = args;
    timer ??= setTimeout(() => { timer = null; act(...latest); }, ms);
  };
}

// As `throttled`, but never busy for more than a fortieth of the time, however long `act` takes.
export function paced(ms, act) {
  let timer = null;
  let took = 0;
  return () => {
    timer ??= setTimeout(() => {
      timer = null;
      const start = performance.now();
      act();
      took = performance.now() - start;
    }, Math.max(ms, 40 * took));
  };
}
