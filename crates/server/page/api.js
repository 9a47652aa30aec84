// The server's programming interface, as this page uses it.

const KEY = "bluelm-key";

export class ApiError extends Error {
  constructor(status, error, retryAfter) {
    super(error.message ?? "The server failed.");
    this.status = status;
    this.code = error.code ?? null;
    this.retryAfter = retryAfter;
  }
}

export const setKey = (key) => localStorage.setItem(KEY, key);

function headers(more = {}) {
  const key = localStorage.getItem(KEY);
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

async function call(path, options = {}) {
  const response = await fetch(path, { ...options, headers: headers(options.headers) });
  if (response.ok) return response;
  let error = {};
  try { error = (await response.json()).error ?? {}; } catch { /* not the server that we know */ }
  throw new ApiError(response.status, error, Number(response.headers.get("retry-after")) || 0);
}

const json = (body) => ({ method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

export const model = async () => (await (await call("/v1/models")).json()).data[0];

export const addPicture = async (blob) =>
  (await call("/v1/images", { method: "POST", headers: { "Content-Type": blob.type || "application/octet-stream" }, body: blob })).json();

// How far the encoding of a picture is, handed to `onProgress` until it is over.
export async function watchPicture(id, onProgress) {
  const response = await call(`/v1/images/${id}/events`);
  await eachEvent(response.body.getReader(), onProgress);
}

export const removePicture = (id) => call(`/v1/images/${id}`, { method: "DELETE" });

export const explain = async (messages, signal) => (await call("/v1/explain", { ...json({ messages }), signal })).json();

export const stopThinking = (id) => call("/v1/chat/completions/control", json({ id, action: "stop_thinking" }));

// Hands the data of every event of a stream to `take`, until the one that says that it is over.
async function eachEvent(reader, take) {
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new TypeError("the connection ended before the answer did");
    text += decoder.decode(value, { stream: true });
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      // Lines that begin with a colon are signs of life.
      if (!event.startsWith("data: ")) continue;
      const data = event.slice(6);
      if (data === "[DONE]") return;
      take(JSON.parse(data));
    }
  }
}

// Asks, and hands every chunk of the answer to `onChunk`. Ends when the answer does; throws what went wrong.
export async function ask(body, signal, onChunk) {
  const options = { ...json({ ...body, stream: true, stream_options: { include_usage: true }, return_progress: true }), signal };
  const response = await call("/v1/chat/completions", options);
  await eachEvent(response.body.getReader(), (chunk) => {
    if (chunk.error) throw new ApiError(500, chunk.error, 0);
    onChunk(chunk);
  });
}
