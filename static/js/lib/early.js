// A form that is sent before the page's scripts are there: the browser would load the page anew, and nothing would start.
// It waits for them; they are there when the document is ready. No module, so that it runs before anything can be pressed.

{
  let sent = null;
  const hold = (event) => {
    event.preventDefault();
    sent = { form: event.target, button: event.submitter };
  };
  addEventListener("submit", hold, true);
  document.addEventListener("DOMContentLoaded", () => {
    removeEventListener("submit", hold, true);
    sent?.form.requestSubmit(sent.button);
  });
}
