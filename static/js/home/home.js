// The home page: photos that are dropped become a project at once, and one question names it. The cards, live.

import { api } from "../lib/api.js";
import { $, page, write } from "../lib/dom.js";
import { Events } from "../lib/events.js";
import { takeFiles } from "../lib/files.js";
import { onPress } from "../lib/forms.js";
import { wording } from "../lib/wording.js";
import { begin } from "./begin.js";

takeFiles(begin, [$("#choose-files"), $("#choose-folder")]);
$("#without-photos").addEventListener("click", () => begin([]));

onPress($("#start-example"), async () => {
  const project = await api("POST", "/projects/example");
  location.assign(`/projects/${project.id}`);
}, $("#example-error"));

// ---- the cards ----

const cardOf = (row) => $(`.project[data-job="${row.job_id}"]`);

new Events({}, page.dataset.after, {
  state(payload, row) {
    const card = cardOf(row);
    if (!card) return;
    $(".ring", card).dataset.state = payload.state;
    write($("[data-words]", card), `${wording.states[payload.state][0].toUpperCase()}${wording.states[payload.state].slice(1)}`);
  },
  metric(_, row) {
    const card = cardOf(row);
    const words = card && $("[data-words]", card).textContent.match(/ of (\d+)$/);
    if (!words || row.step === null) return;
    const percent = Math.round((100 * row.step) / Number(words[1]));
    write($("[data-words]", card), `Training, step ${row.step} of ${words[1]}`);
    write($("[data-percent]", card), `${percent}%`);
    $(".ring .done", card)?.setAttribute("stroke-dasharray", `${percent} 100`);
  },
});
