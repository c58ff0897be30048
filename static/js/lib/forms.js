// Forms: show each problem at its field, keep everything that was typed, submit once.

import { LOST } from "./api.js";
import { $, $$, write } from "./dom.js";
import { onBack } from "./server.js";

export function clearErrors(form) {
  for (const line of $$("[data-error-for], [data-error]", form)) line.textContent = "";
  for (const field of $$("[aria-invalid]", form)) field.removeAttribute("aria-invalid");
}

// A problem's `message` continues the field's name ("steps" "is 0; it can be 1 to 100000").
function sentence(problem, label) {
  const text = problem.message.trim();
  const full = /^(is|has|must|can|needs|should|may|was|lies|does|did|cannot)\b/.test(text) && label ? `${label} ${text}` : text;
  return /[.!?]$/.test(full) ? full : `${full}.`;
}

// The sentences of problems by the line that shows them, and those that have no line.
function byLine(form, problems) {
  const lines = new Map();
  const rest = [];
  for (const problem of problems) {
    const name = problem.field.split(/[.[]/).at(-1).replace(/]$/, "");
    const line = $(`[data-error-for="${CSS.escape(problem.field)}"]`, form) ?? $(`[data-error-for="${CSS.escape(name)}"]`, form);
    if (!line) {
      rest.push(sentence(problem, problem.field));
      continue;
    }
    const field = form.elements[line.dataset.errorFor];
    const label = (field?.labels?.[0]?.textContent ?? "").trim().split("\n")[0];
    const found = lines.get(line) ?? { field, label, texts: [] };
    found.texts.push(sentence(problem, label));
    lines.set(line, found);
  }
  return { lines, rest };
}

// Put each problem at its field; what has no field goes to the form's own line. Returns the fields that are wrong.
export function showErrors(form, error) {
  clearErrors(form);
  const { lines, rest } = byLine(form, error.problems ?? []);
  const wrong = [];
  for (const [line, { field, label, texts }] of lines) {
    line.textContent = texts.join(" ");
    openFolds(line);
    if (field instanceof Element) {
      field.setAttribute("aria-invalid", "true");
      wrong.push({ field, label, text: line.textContent });
    }
  }
  const general = $("[data-error]", form);
  if (general && (rest.length || !wrong.length)) general.textContent = [error.message, ...rest].join(" ");
  wrong[0]?.field.focus();
  return wrong;
}

// What was tried in vain can be tried again.
onBack(() => {
  for (const line of $$(".error")) if (line.textContent === LOST.message) line.textContent = "";
});

function openFolds(line) {
  for (let fold = line.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
}

// Show or clear the errors of the fields `names` alone; the focus stays where it is. `open` unfolds those with errors.
export function showFieldErrors(form, names, problems, open = false) {
  const { lines } = byLine(form, problems);
  for (const name of names) {
    const line = $(`[data-error-for="${CSS.escape(name)}"]`, form);
    const text = lines.get(line)?.texts.join(" ") ?? "";
    write(line, text);
    const field = form.elements[name];
    if (!(field instanceof Element)) continue;
    if (text) field.setAttribute("aria-invalid", "true");
    else field.removeAttribute("aria-invalid");
    if (text && open) openFolds(line);
  }
}

// Run `act` when the form is sent. While it works the button is busy and a second press does nothing.
export function onSubmit(form, act, onProblem = showErrors) {
  form?.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = event.submitter ?? $("[type=submit]", form);
    if (button?.getAttribute("aria-busy") === "true") return;
    button?.setAttribute("aria-busy", "true");
    clearErrors(form);
    try {
      await act(form, event);
    } catch (error) {
      if (!("problems" in error)) throw error;
      onProblem(form, error);
    } finally {
      button?.removeAttribute("aria-busy");
    }
  });
}

// A button that does one thing; its errors go to `where`.
export function onPress(button, act, where) {
  button?.addEventListener("click", async () => {
    if (button.getAttribute("aria-busy") === "true") return;
    button.setAttribute("aria-busy", "true");
    if (where) where.textContent = "";
    try {
      await act(button);
    } catch (error) {
      if (!("problems" in error)) throw error;
      if (where) where.textContent = [error.message, ...error.problems.map((one) => one.message)].join(" ");
    } finally {
      button.removeAttribute("aria-busy");
    }
  });
}

// The text of each named field, trimmed.
export function textsOf(form) {
  return Object.fromEntries([...new FormData(form)].filter(([, value]) => typeof value === "string").map(([name, value]) => [name, value.trim()]));
}
