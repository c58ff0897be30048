// What can be done with the photos chosen, in a bar at the bottom; and undo, by key and by button, wherever one is.

import { $, $$, show, toast, write } from "../lib/dom.js";
import { openWords } from "./caption_words.js";
import { openLoupe } from "./loupe.js";
import { addCloseUps, closeUps } from "./proposal.js";
import { onTile } from "./select.js";
import { editWithUndo, room, undo } from "./state.js";

const bar = $("#actions");

// Set aside; or take back, where all of them are set aside.
export function setAside(ids) {
  const all = ids.every((id) => room.photos.get(id)?.aside);
  return editWithUndo(ids, { aside: !all });
}

const remove = (ids) => editWithUndo(ids, { deleted: true });

// A second, tight crop of those whose subject is small.
function addCloseUpsOf(ids) {
  const planned = closeUps(ids.map((id) => room.photos.get(id)));
  if (planned.length) addCloseUps(planned);
  else toast("No close-up to add: where the subject is known, it fills the photo already, or has too few pixels.", { about: "step" });
}

const ACTS = {
  open: ([id]) => openLoupe(room.chosen.has(room.current) ? room.current : id),
  aside: setAside,
  crop: (ids) => editWithUndo(ids, { crop: "subject" }),
  close: addCloseUpsOf,
  words: () => openWords(null, "replace"),
  delete: remove,
  none: () => room.choose([]),
};

function drawBar() {
  const ids = [...room.chosen];
  show(bar, ids.length > 0);
  document.body.classList.toggle("has-actions", ids.length > 0);
  write($("#chosen-count"), `${ids.length} chosen`);
  const all = ids.length > 0 && ids.every((id) => room.photos.get(id)?.aside);
  write($("[data-act=aside] span", bar), all ? "Take back" : "Set aside");
}

function drawUndo() {
  for (const button of $$("[data-undo]")) {
    const words = room.history[button.dataset.undo];
    const verb = button.dataset.undo === "undo" ? "Undo" : "Redo";
    button.disabled = !words;
    button.setAttribute("aria-label", words ? `${verb}: ${words}` : verb);
    button.title = words ? `${verb}: ${words}` : `Nothing to ${verb.toLowerCase()}`;
  }
}

// Ctrl or Cmd and Z; a field in which somebody types has its own.
function onKey(event) {
  if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
  const key = event.key.toLowerCase();
  const which = key === "z" ? (event.shiftKey ? "redo" : "undo") : key === "y" ? "redo" : null;
  if (!which || event.target.closest?.("input[type=text], input:not([type]), textarea")) return;
  event.preventDefault();
  undo(which);
}

export function startActions() {
  onTile({ open: (id) => openLoupe(id), setAside, remove });
  bar.addEventListener("click", (event) => {
    const press = event.target.closest("[data-act]");
    if (press) ACTS[press.dataset.act]([...room.chosen]);
  });
  for (const button of $$("[data-undo]")) button.addEventListener("click", () => undo(button.dataset.undo));
  addEventListener("keydown", onKey);
  room.on("chosen photos", drawBar);
  room.on("history", drawUndo);
  drawBar();
  drawUndo();
}
