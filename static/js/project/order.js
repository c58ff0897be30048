// Which photos are shown, in which order, and which lie folded under another.

import { good, stacks, toLookAt } from "./findings.js";
import { room } from "./state.js";

const natural = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
const byName = (a, b) => natural.compare(a.name, b.name) || a.id - b.id;

const SORTS = {
  name: byName,
  added: (a, b) => a.id - b.id,
  taken: (a, b) => (a.taken ?? "9").localeCompare(b.taken ?? "9") || byName(a, b), // those without a date come last
};
const FILTERS = {
  all: () => true,
  good,
  look: toLookAt,
  aside: (photo) => photo.aside,
  wordless: (photo) => !photo.caption,
};

export const shown = { sort: "added", filter: "all", open: new Set(), under: new Map() }; // under: id -> ids below it

// Work out `room.order` anew; with `quietly` nobody is told.
export function arrange({ quietly = false } = {}) {
  const visible = [...room.photos.values()].filter(FILTERS[shown.filter]).sort(SORTS[shown.sort]);
  const left = new Set(visible.map((photo) => photo.id));
  const belongs = new Map(); // id -> its stack
  for (const stack of stacks()) {
    const members = stack.filter((id) => left.has(id) && !belongs.has(id));
    if (members.length > 1) for (const id of members) belongs.set(id, members);
  }
  shown.under = new Map();
  const order = [];
  for (const { id } of visible) {
    const stack = belongs.get(id);
    if (!stack) order.push(id);
    else if (!shown.under.has(stack[0])) { // the stack stands where the first of its photos would
      shown.under.set(stack[0], stack.slice(1));
      order.push(...(shown.open.has(stack[0]) ? stack : [stack[0]]));
    }
  }
  room.order = order;
  if (!quietly) room.emit("shown");
}

// The first of the stack that this photo is in, or null.
export function stackOf(id) {
  if (shown.under.has(id)) return id;
  for (const [first, rest] of shown.under) if (rest.includes(id)) return first;
  return null;
}
