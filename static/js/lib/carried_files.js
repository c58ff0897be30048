// Files that are dropped on a page without a place for them go to one that has it, through the browser's own database: a
// page's files end with the page.

const KEY = "carried files";

function opened() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("likeness", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("files");
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

// Run `act(store)`; resolves to its request's result once all is written.
async function within(act) {
  const database = await opened();
  try {
    return await new Promise((resolve, reject) => {
      const change = database.transaction("files", "readwrite");
      const request = act(change.objectStore("files"));
      change.oncomplete = () => resolve(request.result);
      change.onabort = change.onerror = () => reject(change.error);
    });
  } finally {
    database.close();
  }
}

// Leave [{file, path}] for the page that this tab opens next. Rejects where the browser has no room for them.
export async function carry(items) {
  const key = crypto.randomUUID();
  await within((store) => { store.clear(); return store.put(items, key); });
  sessionStorage.setItem(KEY, key);
}

// What the page before has left; nothing is left twice.
export async function carried() {
  const key = sessionStorage.getItem(KEY);
  if (!key) return [];
  sessionStorage.removeItem(KEY);
  const items = await within((store) => store.get(key));
  await within((store) => store.delete(key));
  return items ?? [];
}
