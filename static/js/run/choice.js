// Which checkpoint to draw with: the sentence, its reasons, and the two buttons. The user's star goes before the scores. The
// gauges are those of the step that is shown, else of the best.

import { $, copy, page, show, write } from "../lib/dom.js";
import { fileSize } from "../lib/format.js";
import { wording } from "../lib/wording.js";

export class ChoiceCard {
  constructor(run, suggestion) {
    this.run = run;
    this.suggestion = suggestion;
  }

  draw(state, checkpoints, shown) {
    const { step, words, reasons } = this.suggestion;
    const { starred, steps } = checkpoints;
    const used = starred ?? step ?? steps.at(-1) ?? null;
    const sentence = used === null ? wording.unsaved[state].replace("{}", page.dataset.first) : words;
    const own = starred === null ? "" : starred === step ? "You starred it too. " : `You starred step ${starred}. `;
    write($("#choice-words"), own + sentence);
    show($("#choice-words"), !(state === "failed" && used === null));
    show($("#choice-why"), reasons.length > 0);
    this.drawGauges(checkpoints.measures.get(shown) ?? checkpoints.measures.get(step));
    $("#choice-reasons").replaceChildren(...reasons.map((reason) => Object.assign(document.createElement("li"), { textContent: reason })));
    const again = ["failed", "stopped"].includes(state) && used === null;
    $("#resume").classList.toggle("primary", again);
    for (const one of document.querySelectorAll("[data-needs-checkpoint]")) show(one, used !== null);
    if (used === null) return;
    $("#draw").href = `/pictures?run=${this.run}&step=${used}`;
    const link = $("#download");
    link.href = `/api/runs/${this.run}/adapter?step=${used}`;
    const { size } = checkpoints.all.get(used);
    write($("#download-size"), `step ${used}${size ? `, ${fileSize(size)}` : ""}`);
  }

  drawGauges(measure) {
    const gauges = measure?.gauges ?? [];
    show($("#gauges"), gauges.length > 0);
    write($("#gauges-step"), gauges.length ? `Step ${measure.step}` : "");
    $("#gauge-list").replaceChildren(...gauges.map(gaugeLine));
  }
}

function gaugeLine({ label, words, why, warns, at, low, high, base, photos }) {
  const line = copy("gauge-template");
  write($("b", line), label);
  write($(".value", line), words);
  write($(".why", line), why);
  const bar = $(".gauge", line);
  bar.classList.toggle("warns", warns);
  show($(".of-photos", bar), photos !== null);
  for (const [name, place] of Object.entries({ at, low, high, base, photos: photos ?? 0 })) bar.style.setProperty(`--${name}`, `${place}%`);
  return line;
}
