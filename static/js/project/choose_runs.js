// Choose runs in the list and compare them: a form of checkboxes, so Space chooses and Enter compares.

import { $, $$, write } from "../lib/dom.js";

const LEAST = 2;

export function startChoosingRuns() {
  const form = $("#compare-runs");
  const button = form && $("button", form);
  if (!button) return;
  const most = Number(form.dataset.most);
  const tell = () => {
    const { length } = $$("input:checked", form);
    const words = length > most ? `${length} runs are chosen; at most ${most} can be compared.`
      : length >= LEAST ? `${length} runs are chosen.`
        : length ? "One run is chosen; choose another." : "Choose two runs or more to see them side by side.";
    button.disabled = length < LEAST || length > most;
    write($("#compare-words"), words);
  };
  form.addEventListener("change", tell);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.assign(`/runs/compare?ids=${$$("input:checked", form).map(({ value }) => value).reverse().join()}`);
  });
  addEventListener("pageshow", tell); // back from the comparison: the browser remembers the choice
  tell();
}
