// The list of projects; on the first visit, the way in.

import { api } from "./api.js";
import { $, page } from "./dom.js";
import { Events } from "./events.js";
import { onPress, onSubmit, textsOf } from "./forms.js";
import { runLines } from "./runlines.js";

onSubmit($("#new-project"), async (form) => {
  const project = await api("POST", "/projects", textsOf(form));
  location.assign(`/projects/${project.id}`);
});

onPress($("#start-example"), async () => {
  const project = await api("POST", "/projects/example");
  location.assign(`/projects/${project.id}`);
}, $("#example-error"));

if ($(".run-line")) new Events({}, page.dataset.after, runLines);
