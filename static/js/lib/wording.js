// The words that app/wording.py hands to every page: {states, sources, tones, queued, stopping, editable, unsaved}.

export const wording = JSON.parse(document.getElementById("words").textContent);
