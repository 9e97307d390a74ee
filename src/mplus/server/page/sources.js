// The sources of a memory: read files into it, list, show and forget them. Knows nothing of the chat but that its turns are sources too.

import { $, askAgreement, count, make, showText } from "./dialogs.js";
import { placeOf, sourceLabel } from "./passages.js";
import { events, GoneError, list, memoryPath, post, remove, send, textOf } from "./server.js";

const SPEAKERS = { user: "User:", assistant: "Assistant:" };

/** Tell whether a source is a turn of a conversation. */
export const isTurn = (source) => Boolean(source && SPEAKERS[source.note?.role]);

/** What was said in a turn, from the text of its source. */
export function saidIn(turn, text) {
  const speaker = SPEAKERS[turn.note.role];
  return (text.startsWith(speaker) ? text.slice(speaker.length) : text).trim();
}

const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
export const when = (seconds) => (seconds ? moment.format(new Date(seconds * 1000)) : "");

export class Sources {
  /** `page` has `memory` (an id), `opened` (a promise), `guarded(function)` and `changed()`. */
  constructor(page) {
    this.page = page;
    this.all = [];
    this.asked = 0;
    this.#takeFiles();
  }

  /** Show none: another memory is being opened. */
  clear() {
    this.asked += 1;
    this.all = [];
    this.#show();
    $("no-sources").hidden = true;
  }

  /** Read the list again. */
  async load() {
    const memory = this.page.memory;
    const turn = ++this.asked;
    const found = memory ? await list(memoryPath(memory, "sources")) : [];
    if (turn !== this.asked || memory !== this.page.memory) return;
    this.all = found;
    this.#show();
  }

  named(name) {
    return this.all.find((one) => one.name === name);
  }

  /** What a person calls a source: a turn has a made-up name. */
  label(name) {
    const source = this.named(name);
    if (source && isTurn(source)) return source.note.role === "user" ? "What you said" : "An earlier answer";
    return sourceLabel(name);
  }

  /** Show the text of a source, with a passage of it marked. */
  async open(name, passage = null) {
    const memory = this.page.memory;
    const text = await textOf(memory, name);
    const source = this.named(name);
    const place = passage && placeOf(passage, text, source?.tokens);
    const facts = [source && count(source.tokens, "token"), source && when(source.last_at)].filter(Boolean);
    if (passage) facts.push(place ? "the passage is marked" : "the passage is not in it any more");
    showText({ title: this.label(name), facts: facts.join(", "), text, from: place?.[0], to: place?.[1] });
  }

  /** Forget sources, once the person agrees. */
  async forget(names, title) {
    const memory = this.page.memory;
    const tokens = names.reduce((sum, name) => sum + (this.named(name)?.tokens ?? 0), 0);
    const hadTurns = names.some((name) => isTurn(this.named(name))); // the list may be a newer one by the time it is forgotten
    const what = names.length === 1 ? `Its text of ${count(tokens, "token")} goes` : `${count(names.length, "turn")} of ${count(tokens, "token")} go`;
    const text = `${what} from this memory, with all that the model kept of it. Forks and exported files are not changed. This cannot be undone.`;
    const agreed = await askAgreement({ title, text, ok: "Forget" }, () => post(memoryPath(memory, "forget"), { sources: names }));
    if (!agreed) return;
    await this.page.changed(`${title.replace(/^Forget /, "").replace(/\?$/, "")}: forgotten`, { hadTurns });
  }

  /** Read files into the memory, one after the other. A file takes the place of one of its name, once the person agrees. */
  async read(files) {
    await this.page.opened; // whether a file's name is known is told by the list of this memory
    const memory = this.page.memory;
    if (!memory) return;
    const waiting = [];
    for (const file of files) {
      const known = this.named(file.name);
      if (!known || (await this.#mayReplace(known))) waiting.push(new Upload(file, memory, this, Boolean(known)));
    }
    $("uploads").append(...waiting.map((one) => one.row));
    for (const one of waiting) if (!one.ended) await one.run();
  }

  #mayReplace(known) {
    const title = `Replace ${known.name}?`;
    const text = `This memory has a source of that name, of ${count(known.tokens, "token")}. The file takes its place, and the old text goes for good.`;
    return askAgreement({ title, text, ok: "Replace" }, () => null);
  }

  #show() {
    const documents = this.all.filter((one) => !isTurn(one));
    const turns = this.all.filter(isTurn);
    $("sources").replaceChildren(...documents.map((one) => this.#row(one)), ...(turns.length ? [this.#turnsRow(turns)] : []));
    $("no-sources").hidden = !this.page.memory || this.all.length > 0;
    $("view-sources").textContent = documents.length ? `Sources (${documents.length})` : "Sources";
  }

  #row(source) {
    const open = make("button", { className: "name", text: sourceLabel(source.name) });
    open.onclick = () => this.page.guarded(() => this.open(source.name));
    const forget = make("button", { className: "quiet", text: "Forget", label: `Forget ${source.name}` });
    forget.onclick = () => this.page.guarded(() => this.forget([source.name], `Forget ${sourceLabel(source.name)}?`));
    const facts = [count(source.tokens, "token"), when(source.last_at)].filter(Boolean).join(", ");
    return make("li", {}, make("div", {}, open, make("span", { className: "facts", text: facts })), forget);
  }

  #turnsRow(turns) {
    const tokens = turns.reduce((sum, one) => sum + one.tokens, 0);
    const forget = make("button", { className: "quiet", text: "Forget", label: "Forget the chat" });
    forget.onclick = () => this.page.guarded(() => this.forget(turns.map((one) => one.name), "Forget the chat?"));
    const facts = `${count(turns.length, "turn")}, ${count(tokens, "token")}`;
    return make("li", {}, make("div", {}, make("span", { className: "name", text: "This chat" }), make("span", { className: "facts", text: facts })), forget);
  }

  #takeFiles() {
    const field = $("files");
    const drop = $("drop");
    $("choose").onclick = () => field.click();
    field.onchange = () => {
      const files = [...field.files];
      field.value = "";
      this.page.guarded(() => this.read(files));
    };
    const over = (on) => (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      drop.classList.toggle("over", on);
    };
    document.addEventListener("dragover", over(true));
    document.addEventListener("dragleave", over(false));
    document.addEventListener("drop", (event) => {
      over(false)(event);
      const files = [...(event.dataTransfer?.files ?? [])]; // the event's own list is gone when it has been handled
      if (files.length) this.page.guarded(() => this.read(files));
    });
  }
}

/** One file on its way into a memory: its row, its job on the server. */
class Upload {
  constructor(file, memory, sources, replaces) {
    Object.assign(this, { file, memory, sources, replaces, job: null, ended: false, stopped: new AbortController() });
    this.bar = make("progress", { label: `Progress of ${file.name}` });
    this.facts = make("span", { className: "facts", text: "waits" });
    this.button = make("button", { className: "quiet", text: "Cancel", label: `Cancel ${file.name}` });
    this.button.onclick = () => this.cancel();
    this.row = make("li", {}, make("div", {}, make("span", { className: "name", text: file.name }), this.bar, this.facts), this.button);
  }

  async run() {
    try {
      this.facts.textContent = "is being sent";
      const form = new FormData();
      form.append("file", this.file, this.file.name);
      const [method, names] = this.replaces ? ["PUT", [this.file.name]] : ["POST", []];
      const path = `${memoryPath(this.memory, "sources", ...names)}?wait=false`;
      this.job = (await (await send(method, path, { form, signal: this.stopped.signal })).json()).id;
      await this.#follow();
    } catch (error) {
      if (error.name === "AbortError") return this.#end(`${this.file.name}: cancelled`);
      this.#fail(error.message);
      if (error instanceof GoneError || error.status === 401) throw error;
    }
  }

  async cancel() {
    this.ended = true;
    if (this.job) await this.sources.page.guarded(() => remove(`v1/jobs/${this.job}`));
    this.stopped.abort();
    this.#end(`${this.file.name}: cancelled`);
  }

  /** Follow the job to its end. */
  async #follow() {
    for await (const job of events(await send("GET", `v1/jobs/${this.job}/events`, { signal: this.stopped.signal }))) {
      if (job.status === "failed") return this.#fail(job.error.message);
      if (job.status === "interrupted") return this.#fail("the server was started again before this was read");
      if (job.status === "cancelled") return this.#end(`${this.file.name}: cancelled`);
      if (job.status === "succeeded") return this.#end(`${this.file.name} is read`);
      this.#progress(job);
    }
    throw new GoneError("the server stopped in the middle of its answer");
  }

  #progress(job) {
    const { tokens_done: done, tokens_total: total, tokens_per_s: rate } = job;
    if (total) Object.assign(this.bar, { max: total, value: done });
    const tokens = total ? `${done.toLocaleString("en")} of ${count(total, "token")}` : count(done, "token");
    this.facts.textContent = rate ? `${tokens}, ${Math.round(rate).toLocaleString("en")} a second` : tokens;
  }

  #end(said) {
    this.ended = true;
    this.row.remove();
    this.sources.page.changed(said);
  }

  #fail(reason) {
    this.bar.remove();
    this.facts.textContent = reason;
    this.facts.className = "wrong";
    this.row.setAttribute("role", "alert");
    const again = make("button", { className: "quiet", text: "Try again", label: `Try ${this.file.name} again` });
    again.onclick = () => {
      this.row.remove();
      this.sources.page.guarded(() => this.sources.read([this.file]));
    };
    const close = make("button", { className: "quiet", text: "Close", label: `Close the message about ${this.file.name}` });
    close.onclick = () => this.row.remove();
    this.button.replaceWith(again, close);
  }
}
