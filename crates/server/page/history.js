// Conversations, kept in this browser: pictures and all, in IndexedDB.

const open = new Promise((resolve, reject) => {
  const request = indexedDB.open("bluelm", 1);
  request.onupgradeneeded = () => request.result.createObjectStore("conversations", { keyPath: "id" });
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});
// Some private windows have no store; the page works all the same and forgets.
open.catch(() => {});

async function run(mode, work) {
  const database = await open;
  return new Promise((resolve, reject) => {
    const transaction = database.transaction("conversations", mode);
    const request = work(transaction.objectStore("conversations"));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
  });
}

export async function all() {
  try {
    const found = await run("readonly", (store) => store.getAll());
    return found.sort((a, b) => b.updated - a.updated);
  } catch {
    return [];
  }
}

export const keep = (conversation) => run("readwrite", (store) => store.put(conversation)).catch(() => {});
export const remove = (id) => run("readwrite", (store) => store.delete(id)).catch(() => {});
export const clear = () => run("readwrite", (store) => store.clear()).catch(() => {});
