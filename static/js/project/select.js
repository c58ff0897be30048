// Choosing photos in the grid. One Tab stop: arrows move, Shift extends, Ctrl or Cmd adds.
//
//   mouse      click chooses, Shift to there, Ctrl or Cmd adds; a drag draws a box around those it takes; double-click opens
//   touch      a tap opens; a long press or a tap on the circle chooses, and from then on each tap adds or leaves out
//   keys       arrows, Home, End; Space or Enter opens; Ctrl+A all, Escape none; X sets aside; S folds a stack; Delete

import { room } from "./state.js";

const FAR_PX = 6; // a press that moves less is a click
const LONG_MS = 450;
const EDGE_PX = 48; // a drag this close to the edge of the window scrolls
let anchor = null; // where Shift extends from
let actions = { open() {}, setAside() {}, remove() {} };

export const onTile = (given) => { actions = { ...actions, ...given }; };
const idOf = (element) => Number(element?.closest("[data-photo]")?.dataset.photo) || null;
const adds = (event) => event.ctrlKey || event.metaKey;

function between(from, to) {
  const [a, b] = [room.order.indexOf(from), room.order.indexOf(to)];
  return a < 0 || b < 0 ? [to] : room.order.slice(Math.min(a, b), Math.max(a, b) + 1);
}

function toggle(id) {
  const chosen = new Set(room.chosen);
  if (!chosen.delete(id)) chosen.add(id);
  anchor = id;
  room.choose(chosen, id);
}

function extend(id, keep) {
  anchor ??= room.current ?? room.order[0];
  room.choose(new Set([...(keep ? room.chosen : []), ...between(anchor, id)]), id);
}

function only(id) {
  anchor = id;
  room.choose([id], id);
}

function target(vertical, key) {
  const at = room.order.indexOf(room.current);
  switch (key) {
    case "ArrowLeft": return room.order[Math.max(at - 1, 0)];
    case "ArrowRight": return room.order[Math.min(at + 1, room.order.length - 1)];
    case "ArrowUp": return at < 0 ? room.order[0] : vertical(room.current, false);
    case "ArrowDown": return at < 0 ? room.order[0] : vertical(room.current, true);
    case "Home": return room.order[0];
    case "End": return room.order.at(-1);
    default: return undefined;
  }
}

function onKey({ toggleStack, focusTile, vertical }, event) {
  const to = target(vertical, event.key);
  const own = () => (room.chosen.size ? [...room.chosen] : [room.current].filter(Boolean));
  if (to !== undefined) {
    if (to === null) return;
    if (event.shiftKey) extend(to, false);
    else if (adds(event)) room.focus(to);
    else only(to);
    focusTile(to);
  } else if (event.key === " " && adds(event)) toggle(room.current);
  else if ((event.key === " " || event.key === "Enter") && room.current) actions.open(room.current);
  else if (event.key.toLowerCase() === "a" && adds(event)) room.choose(room.order);
  else if (event.key === "Escape" && room.chosen.size) room.choose([]);
  else if (adds(event) || event.altKey) return;
  else if (event.key.toLowerCase() === "x" && own().length) actions.setAside(own());
  else if (event.key.toLowerCase() === "s" && room.current) toggleStack(room.current);
  else if ((event.key === "Delete" || event.key === "Backspace") && own().length) actions.remove(own());
  else return;
  event.preventDefault();
}

// A box that is drawn with the mouse, in coordinates of the page, since it may scroll meanwhile.
function startBox(list, within, event) {
  const [x, y] = [event.pageX, event.pageY];
  const kept = adds(event) || event.shiftKey ? new Set(room.chosen) : new Set();
  const origin = list.parentElement.getBoundingClientRect();
  const [gridX, gridY] = [origin.left + scrollX, origin.top + scrollY];
  const band = document.createElement("div");
  band.className = "band";
  document.body.append(band);
  let last = event;
  const draw = () => {
    const [toX, toY] = [last.clientX + scrollX, last.clientY + scrollY];
    const [left, right, top, bottom] = [Math.min(x, toX), Math.max(x, toX), Math.min(y, toY), Math.max(y, toY)];
    Object.assign(band.style, { left: `${left}px`, top: `${top}px`, width: `${right - left}px`, height: `${bottom - top}px` });
    const taken = within({ left: left - gridX, right: right - gridX, top: top - gridY, bottom: bottom - gridY });
    room.choose(new Set([...kept, ...taken]), taken.at(-1) ?? room.current);
  };
  const scroll = setInterval(() => {
    const step = last.clientY < EDGE_PX ? -18 : last.clientY > innerHeight - EDGE_PX ? 18 : 0;
    if (step) { scrollBy(0, step); draw(); }
  }, 16);
  const follow = (move) => { last = move; draw(); };
  const end = () => { clearInterval(scroll); band.remove(); removeEventListener("pointermove", follow); };
  addEventListener("pointermove", follow);
  addEventListener("pointerup", end, { once: true });
  addEventListener("pointercancel", end, { once: true });
  draw();
}

// `grid` is {toggleStack, focusTile, vertical, within} of grid.js.
export function listenToSelection(list, grid) {
  const { toggleStack, focusTile, within } = grid;
  let press = null;
  let drawn = false; // the click that ends a drag chooses nothing
  list.parentElement.addEventListener("pointerdown", (event) => {
    drawn = false;
    if (event.button !== 0 || event.target.closest("button, label, input")) return;
    press = { x: event.clientX, y: event.clientY, id: idOf(event.target), long: false };
    if (event.pointerType === "mouse") return;
    const { id } = press;
    if (id) press.timer = setTimeout(() => { if (press) { press.long = true; toggle(id); navigator.vibrate?.(10); } }, LONG_MS);
  });
  addEventListener("pointermove", (event) => {
    if (!press || Math.hypot(event.clientX - press.x, event.clientY - press.y) < FAR_PX) return;
    clearTimeout(press.timer);
    press = null;
    if (event.pointerType !== "mouse") return;
    drawn = true;
    startBox(list, within, event);
  });
  addEventListener("pointerup", () => clearTimeout(press?.timer));
  addEventListener("pointercancel", () => { clearTimeout(press?.timer); press = null; });
  list.addEventListener("contextmenu", (event) => { if (press?.long) event.preventDefault(); });

  list.parentElement.addEventListener("click", (event) => {
    const id = idOf(event.target);
    const long = press?.long;
    press = null;
    if (drawn || long) return;
    if (!id) {
      if (!event.target.closest("button, label, input, a")) room.choose([]);
      return;
    }
    if (event.target.closest("[data-stack]")) toggleStack(id);
    else if (event.target.closest(".choose") || adds(event)) toggle(id);
    else if (event.shiftKey) extend(id, true);
    else if (event.pointerType !== "touch" && event.pointerType !== "pen") only(id);
    else if (room.chosen.size) toggle(id);
    else actions.open(id);
    focusTile(id, { preventScroll: true });
  });
  list.addEventListener("dblclick", (event) => {
    const id = idOf(event.target);
    if (id && !event.target.closest(".choose, [data-stack]")) actions.open(id);
  });
  list.addEventListener("focusin", (event) => idOf(event.target) && room.focus(idOf(event.target)));
  list.addEventListener("keydown", (event) => onKey(grid, event));
  // The focus falls to the page when what had it goes, as a message with its button does: what is chosen stays at hand.
  addEventListener("keydown", (event) => {
    if (event.target === document.body && room.chosen.size && list.parentElement.checkVisibility() && !document.querySelector("dialog[open]")) onKey(grid, event);
  });
}
