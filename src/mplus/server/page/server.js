// Calls to the server: the key, errors as one sentence, events. Knows no element of the page.

const KEY = "mplus-key";

/** An answer of the server that says no. */
export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** No answer at all, or one of a proxy before a server that is away. */
export class GoneError extends Error {}

/** What this browser keeps: `session` until the tab closes, `local` longer. Storage may be switched off. */
export const kept = {
  get(name, area = "local") {
    try {
      return window[`${area}Storage`].getItem(name) ?? "";
    } catch {
      return "";
    }
  },
  set(name, value, area = "local") {
    try {
      window[`${area}Storage`].setItem(name, value);
    } catch {
      // the page works without, until it is loaded again
    }
  },
};

let key = kept.get(KEY, "session");

export const hasKey = () => key !== "";

export function useKey(value) {
  key = value.trim();
  kept.set(KEY, key, "session");
}

/** Path of a memory, with what follows it; each part as it is, slashes and all. */
export const memoryPath = (id, ...parts) => ["v1/memories", id, ...parts].map((part, at) => (at ? encodeURIComponent(part) : part)).join("/");

/** Send a request; paths are relative to the page, so that a proxy may put the server below a directory. */
export async function send(method, path, { json, form, signal } = {}) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  if (json !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: json === undefined ? form : JSON.stringify(json), signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new GoneError("the server does not answer");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/** The value that a request gives back. */
export async function get(path, options) {
  return whole(await send("GET", path, options));
}

/** All of a list that comes in pages. */
export async function list(path) {
  const found = [];
  for (let after = null; ; ) {
    const some = await get(`${path}?limit=1000${after === null ? "" : `&after=${encodeURIComponent(after)}`}`);
    found.push(...some.data);
    if (!some.has_more) return found;
    after = some.last_id;
  }
}

/** The text of a source. */
export async function textOf(memory, source) {
  const response = await send("GET", `${memoryPath(memory, "text")}?source=${encodeURIComponent(source)}`);
  return response.text();
}

export async function post(path, json) {
  return whole(await send("POST", path, { json }));
}

export async function remove(path) {
  await send("DELETE", path);
}

async function whole(response) {
  try {
    return await response.json();
  } catch {
    throw new GoneError("the server stopped in the middle of its answer");
  }
}

/** What is wrong, in the server's words. */
async function refusal(response) {
  let body = null;
  try {
    body = await response.json();
  } catch {
    // no JSON: not our server's words
  }
  const said = body?.error?.message ?? body?.detail;
  if (typeof said === "string") return new ServerError(said, response.status);
  if (response.status >= 502) return new GoneError("the server does not answer");
  return new ServerError(`the server said ${response.status} ${response.statusText}`.trim(), response.status);
}

/** Events of a stream (SSE): their data, parsed; ends at `[DONE]` or with the stream. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { done, value } = await read(reader);
    if (done) return;
    waiting += value.replaceAll("\r\n", "\n");
    const blocks = waiting.split("\n\n");
    waiting = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n");
      if (data === "[DONE]") return;
      if (data) yield checked(JSON.parse(data));
    }
  }
}

async function read(reader) {
  try {
    return await reader.read();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new GoneError("the server stopped in the middle of its answer");
  }
}

/** An error may also come once an answer has begun. */
function checked(data) {
  if (data?.error?.message) throw new ServerError(data.error.message, data.error.status ?? 500);
  return data;
}
