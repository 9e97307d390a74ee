// The page as a whole: which memory, what is wrong with the server, and what happens to whole memories.

import { Chat } from "./chat.js";
import { $, askAgreement, askKey, askName, count, make, sentence } from "./dialogs.js";
import { get, GoneError, hasKey, kept, list, memoryPath, post, remove, send, ServerError, useKey } from "./server.js";
import { Sources } from "./sources.js";

const CHOSEN = "mplus-memory";
const LONGEST_WAIT_S = 15;

const page = {
  memory: "",
  model: "",
  memories: [],
  opened: Promise.resolve(), // when the memory that was chosen last is shown

  /** Run something; its error is shown, whatever it is. */
  async guarded(action) {
    try {
      this.say("");
      await action();
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error instanceof GoneError) showGone();
      else if (error.status === 401) await signIn(hasKey() ? error.message : "");
      else if (error instanceof ServerError) this.say(error.message);
      else {
        this.say("this page met an error that is not yours; load it again");
        throw error;
      }
    }
  },

  /** Show an error; "" takes the last one away. */
  say(message) {
    $("error-text").textContent = message && sentence(message);
    $("error").hidden = !message;
  },

  /** Read again what a change may have changed. */
  async changed(announced = "", { hadTurns = false } = {}) {
    if (announced) $("announce").textContent = `${announced}.`;
    await this.guarded(async () => {
      await Promise.all([sources.load(), loadMemories()]);
      if (hadTurns) await chat.load();
    });
  },
};

const sources = new Sources(page);
const chat = new Chat(page, sources);

// -- memories ----------------------------------------------------------------

let asked = 0;

/** Read the list again; a list that was asked for before a newer one is not used. */
async function loadMemories() {
  const turn = ++asked;
  const found = await list("v1/memories");
  if (turn !== asked) return;
  page.memories = found;
  const ids = page.memories.map((one) => one.id);
  if (!ids.includes(page.memory)) page.memory = ids.includes(kept.get(CHOSEN)) ? kept.get(CHOSEN) : (ids[0] ?? "");
  const none = make("option", { text: "none yet", value: "" });
  $("memory").replaceChildren(...(ids.length ? ids.map((id) => make("option", { text: id, value: id })) : [none]));
  $("memory").value = page.memory;
  enable();
  const chosen = page.memories.find((one) => one.id === page.memory);
  $("facts").textContent = chosen
    ? [count(chosen.tokens, "token"), count(chosen.sources, "source"), chosen.bytes ? `${(chosen.bytes / 2 ** 20).toFixed(1)} MiB` : ""].filter(Boolean).join(", ")
    : "Make a memory to begin.";
}

let opening = 0;

/** A memory that is being opened takes no message: its chat is about to be shown anew. */
function enable() {
  for (const id of ["fork", "export", "delete-memory", "choose"]) $(id).disabled = !page.memory;
  for (const id of ["message", "send"]) $(id).disabled = !page.memory || opening > 0;
}

function choose(id) {
  return whileOpening(async () => {
    page.memory = id;
    sources.clear();
    chat.clear();
    await loadMemories();
    const chosen = page.memory;
    kept.set(CHOSEN, chosen);
    await sources.load();
    if (chosen === page.memory) await chat.load();
  });
}

function start() {
  return whileOpening(async () => {
    page.model = (await get("v1/models")).data[0].id;
    await choose(page.memory);
  });
}

async function whileOpening(action) {
  opening += 1;
  enable();
  const opened = action();
  page.opened = Promise.allSettled([page.opened, opened]);
  try {
    await opened;
  } finally {
    opening -= 1;
    enable();
  }
}

function newMemory() {
  const words = { title: "New memory", text: "For a person, a project, or whatever is to be remembered apart.", ok: "Create" };
  return made(words, (id) => post("v1/memories", { id }));
}

function fork() {
  const from = page.memory;
  const words = {
    title: `Fork ${from}`,
    text: "The fork begins with all that this memory holds; from then on neither sees what the other reads.",
    ok: "Fork",
    value: `${from}-2`,
  };
  return made(words, (id) => post(memoryPath(from, "fork"), { id }));
}

/** Ask for a name, make a memory of it, and go there. */
async function made(words, act) {
  let made = "";
  const agreed = await askName(words, async (id) => {
    await act(id);
    made = id;
  });
  if (!agreed) return;
  await choose(made);
  $("announce").textContent = `Memory ${made} is open.`;
  $("message").focus();
}

async function deleteMemory() {
  const { memory, memories } = page;
  const known = memories.find((one) => one.id === memory);
  const text = `${count(known.sources, "source")} with ${count(known.tokens, "token")} go from the server and its disk. Forks and exported files stay. This cannot be undone.`;
  if (await askAgreement({ title: `Delete the memory ${memory}?`, text, ok: "Delete" }, () => remove(memoryPath(memory)))) await choose("");
}

async function exportMemory() {
  const file = await (await send("GET", memoryPath(page.memory, "export"))).blob();
  const link = make("a", { href: URL.createObjectURL(file), download: `${page.memory}.mplus` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// -- the server --------------------------------------------------------------

let asking = false;

/** Ask for a key until one fits or the person gives up. */
async function signIn(reason) {
  $("change-key").hidden = false;
  if (asking) return;
  asking = true;
  const agreed = await askKey(reason, async (key) => {
    useKey(key);
    await get("v1/models");
  });
  asking = false;
  if (agreed) await page.guarded(start);
  else page.say("this server needs a key; press Key to give one");
}

let waiting = null;

/** Say that the server is gone, and ask it again and again. */
function showGone() {
  if (waiting) return;
  waiting = { seconds: 1, left: 1, timer: setInterval(tick, 1000) };
  $("gone").hidden = false;
  sayGone();
}

function sayGone() {
  $("gone-text").textContent = "The server does not answer. What you typed is kept, and the page goes on when the server is back.";
}

async function tick() {
  waiting.left -= 1;
  if (waiting.left > 0) return;
  waiting.seconds = Math.min(waiting.seconds * 2, LONGEST_WAIT_S);
  waiting.left = waiting.seconds;
  await retry();
}

async function retry() {
  try {
    await get("health");
  } catch (error) {
    if (error instanceof GoneError || error.status === 503) return;
  }
  if (!waiting) return;
  clearInterval(waiting.timer);
  waiting = null;
  $("gone").hidden = true;
  $("announce").textContent = "The server is back.";
  await page.guarded(start);
}

// -- the person --------------------------------------------------------------

function view(name) {
  document.body.dataset.view = name;
  for (const one of ["chat", "sources"]) $(`view-${one}`).setAttribute("aria-pressed", String(one === name));
}

$("memory").onchange = () => page.guarded(() => choose($("memory").value));
$("new-memory").onclick = () => page.guarded(newMemory);
$("fork").onclick = () => page.guarded(fork);
$("export").onclick = () => page.guarded(exportMemory);
$("delete-memory").onclick = () => page.guarded(deleteMemory);
$("change-key").onclick = () => signIn("");
$("retry").onclick = retry;
$("close-error").onclick = () => page.say("");
$("view-chat").onclick = () => view("chat");
$("view-sources").onclick = () => view("sources");
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) page.say("");
});

$("change-key").hidden = !hasKey();
page.guarded(start);
