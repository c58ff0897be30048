// Requests to the studio. Every answer that is not a success becomes an ApiError with a sentence for the user.

import { check } from "./server.js";

export class ApiError extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code;
    this.problems = error.problems ?? [];
  }
}

export const LOST = { code: "unreachable", message: "Likeness does not answer. Once it does, try again.", problems: [] };

function lost() {
  check();
  return new ApiError(0, LOST);
}

// The server's {"error": {...}}; for any other body, a general sentence.
function problemOf(status, text) {
  try {
    const { error } = JSON.parse(text);
    if (error?.message) return new ApiError(status, error);
  } catch { /* not JSON: below */ }
  return new ApiError(status, { code: "http", message: `The studio answered with an error (${status}).`, problems: [] });
}

export async function api(method, path, body, more = {}) {
  const request = { method, headers: { Accept: "application/json" }, ...more };
  if (body !== undefined) {
    request.headers["Content-Type"] = "application/json";
    request.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(`/api${path}`, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw lost();
  }
  const text = await answer.text().catch(() => { throw lost(); });
  if (!answer.ok) throw problemOf(answer.status, text);
  return text ? JSON.parse(text) : null;
}

// Send a file, with progress as a fraction. Returns {promise, abort}. Uses XMLHttpRequest: fetch reports no upload progress.
export function put(path, file, onProgress, method = "PUT") {
  const request = new XMLHttpRequest();
  const promise = new Promise((resolve, reject) => {
    request.open(method, `/api${path}`);
    request.setRequestHeader("Content-Type", file.type || "application/octet-stream");
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) resolve({ status: request.status, data: JSON.parse(request.responseText) });
      else reject(problemOf(request.status, request.responseText));
    };
    request.onerror = () => reject(lost());
    request.onabort = () => reject(new ApiError(0, { code: "cancelled", message: "Cancelled.", problems: [] }));
    request.send(file);
  });
  return { promise, abort: () => request.abort() };
}

// This page as the server renders it now; null when it does not answer.
export async function freshPage() {
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    return answer.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null;
  } catch {
    check();
    return null;
  }
}

// For work that nobody waits for: a request that fails changes nothing.
export async function quietly(promise) {
  try {
    await promise;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
}

// Every item of a list, page by page.
export async function all(path) {
  const found = [];
  let after = null;
  for (;;) {
    const joint = path.includes("?") ? "&" : "?";
    const items = await api("GET", `${path}${joint}limit=200${after === null ? "" : `&after=${after}`}`);
    found.push(...items);
    if (items.length < 200) return found;
    after = items.at(-1).id;
  }
}
