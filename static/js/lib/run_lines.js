// Runs in a list, live: the badge and the step of each.

import { $, showState, throttled, write } from "./dom.js";

const lineOf = (row) => $(`.run-line[data-job="${row.job_id}"]`);

const showStep = throttled(500, (line, step) => {
  const words = $("[data-run-progress]", line);
  write(words, words.textContent.replace(/^[\d,]+/, String(step)));
});

// Handlers for `Events`: spread them in, or call them.
export const runLines = {
  state(payload, row) {
    const line = lineOf(row);
    if (line) showState($(".badge", line), payload.state);
  },
  metric(_, row) {
    const line = lineOf(row);
    if (line && row.step !== null) showStep(line, row.step);
  },
};
