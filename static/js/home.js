// The home page: creating a project, and the latest runs, live.

import { api } from "./lib/api.js";
import { $, page } from "./lib/dom.js";
import { Events } from "./lib/events.js";
import { onPress, onSubmit, textsOf } from "./lib/forms.js";
import { runLines } from "./lib/run_lines.js";

onSubmit($("#new-project"), async (form) => {
  const project = await api("POST", "/projects", textsOf(form));
  location.assign(`/projects/${project.id}`);
});

onPress($("#start-example"), async () => {
  const project = await api("POST", "/projects/example");
  location.assign(`/projects/${project.id}`);
}, $("#example-error"));

if ($(".run-line")) new Events({}, page.dataset.after, runLines);
