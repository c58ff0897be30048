// The list of projects; on the first visit, the way in.

import { api } from "./api.js";
import { $ } from "./dom.js";
import { onPress, onSubmit, textsOf } from "./forms.js";

onSubmit($("#new-project"), async (form) => {
  const project = await api("POST", "/projects", textsOf(form));
  location.assign(`/projects/${project.id}`);
});

onPress($("#start-example"), async () => {
  const project = await api("POST", "/projects/example");
  location.assign(`/projects/${project.id}`);
}, $("#example-error"));
