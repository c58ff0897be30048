// The dialog about the subject: another trigger word may take the old one's place in the captions too.

import { ApiError, api } from "../lib/api.js";
import { $, page, show, write } from "../lib/dom.js";
import { plural } from "../lib/format.js";
import { onSubmit, textsOf } from "../lib/forms.js";

const oneLine = (text) => text.trim().split(/\s+/).join(" ");

export function listenToSubject(form, projectId) {
  const offer = $("#replace-trigger", form);
  const changed = () => ![page.dataset.trigger, ""].includes(oneLine(form.elements.trigger.value));

  form.elements.trigger.addEventListener("input", async () => {
    show(offer, false);
    if (!changed()) return;
    try {
      const { captions_with_trigger: count, trigger } = await api("GET", `/projects/${projectId}`);
      const word = oneLine(form.elements.trigger.value);
      write($("#replace-words", offer), `Also replace “${trigger}” with “${word}” in ${plural(count, "caption")}`);
      show(offer, count > 0 && changed());
    } catch (error) {
      if (!(error instanceof ApiError)) throw error; // without the offer the words can still be saved
    }
  });

  onSubmit(form, async () => {
    const replace = !offer.hidden && form.elements.replace_in_captions.checked;
    await api("PATCH", `/projects/${projectId}`, { ...textsOf(form), replace_in_captions: replace });
    location.reload();
  });
}
