// What the base draws for each prompt and seed: known from earlier runs and pictures, and drawn on request.

import { ApiError, api } from "../lib/api.js";
import { $, page, show, write } from "../lib/dom.js";
import { onPress } from "../lib/forms.js";
import { filled, form } from "./fields.js";

const ENDED = ["succeeded", "failed", "stopped", "cancelled"];
const EVERY_MS = 1500;
let known = JSON.parse($("#bases-data").textContent);

export const seedOf = (index) => Number(form.elements.sample_seed.value) + index;
export const baseOf = (prompt, index) => known.find((one) => one.model === form.elements.model.value && one.seed === seedOf(index) && one.prompt === filled(prompt));

const missing = (prompts) => prompts.map((prompt, index) => ({ prompt, index })).filter(({ prompt, index }) => prompt.trim() && !baseOf(prompt, index));

export const offerBases = (prompts) => show($("#draw-bases"), missing(prompts).length > 0);

// The same model, size, steps and guidance as at step 0 of the run.
function request({ prompt, index }) {
  const number = (name) => form.elements[name].value.trim();
  const side = number("side_px");
  return { model: form.elements.model.value, prompt: filled(prompt), seed: seedOf(index), steps: number("sample_steps"), guidance: number("sample_guidance"), width: side, height: side };
}

const pause = () => new Promise((go) => setTimeout(go, EVERY_MS));

// `prompts()` are the templates now; `changed` is called whenever a picture is there.
export function onDraw(prompts, changed) {
  onPress($("#draw-bases"), async () => {
    const wanted = missing(prompts());
    const jobs = [];
    for (const one of wanted) jobs.push((await api("POST", "/pictures", request(one))).job_id);
    write($("#bases-words"), "Drawing, after what runs now …");
    let open = jobs;
    while (open.length) {
      await pause();
      try {
        const views = await Promise.all(open.map((id) => api("GET", `/jobs/${id}`)));
        known = await api("GET", `/projects/${page.dataset.project}/bases`);
        changed();
        open = views.filter(({ state }) => !ENDED.includes(state)).map(({ id }) => id);
        const failed = views.find(({ error }) => error);
        if (failed) write($("#bases-error"), failed.error.message);
      } catch (error) {
        if (!(error instanceof ApiError) || error.status) throw error; // unreachable: once more
      }
    }
    write($("#bases-words"), "");
  }, $("#bases-error"));
}
