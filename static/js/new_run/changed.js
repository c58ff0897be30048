// What the user has changed, counted; a way back for each and for all; and a view of nothing else.

import { $, $$, show, write } from "../lib/dom.js";
import { plural } from "../lib/format.js";
import { fieldOf, form, putUsual, touched } from "./fields.js";

const card = $("#settings");
const filter = $("#only-changed");

export function showChanged() {
  const count = touched.size;
  write($("#changed-words"), count ? `${plural(count, "setting")} changed.` : "Nothing is changed.");
  show($("#reset-all"), count > 0);
  if (!count) filter.checked = false;
  filter.disabled = !count;
  for (const fold of $$("details[data-group]", card)) {
    const inside = $$("[data-changed]", fold).length;
    const badge = $("[data-changed-count]", fold);
    show(badge, inside > 0);
    write(badge, `${inside} changed`);
    fold.toggleAttribute("data-has-changed", inside > 0);
  }
  applyFilter();
}

function applyFilter() {
  card.toggleAttribute("data-only-changed", filter.checked);
  if (filter.checked) for (const fold of $$("details[data-has-changed]", card)) fold.open = true;
}

filter.addEventListener("change", applyFilter);

// `changed(name)` is called after one was reset; `resetAll` when all are to be.
export function onReset(changed, resetAll) {
  form.addEventListener("click", (event) => {
    const button = event.target.closest("[data-reset]");
    if (!button) return;
    const field = button.closest("[data-knob]");
    putUsual(field);
    if (field.dataset.knob === "rank" && !touched.has("alpha")) putUsual(fieldOf("alpha"));
    ($("input:not([hidden]), select, textarea:not([hidden])", field) ?? $("#add-prompt")).focus();
    changed(field.dataset.knob);
  });
  $("#reset-all").addEventListener("click", resetAll);
}
