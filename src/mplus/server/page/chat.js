// The chat with a memory: earlier turns from its sources, a message, a streamed answer and the passages it drew on.

import { $, make, sentence } from "./dialogs.js";
import { passageList } from "./passages.js";
import { events, GoneError, send, textOf } from "./server.js";
import { isTurn, saidIn } from "./sources.js";

const EARLIER = 20;
const TURNS_IN_PROMPT = 6; // so that "and there?" has something to refer to; all else is in the memory
const LONGEST_HISTORY = 2000;

export class Chat {
  /** `page` has `memory` (an id), `model`, `guarded(function)` and `changed()`. */
  constructor(page, sources) {
    Object.assign(this, { page, sources, answering: null, turns: [] });
    $("ask").onsubmit = (event) => {
      event.preventDefault();
      this.submit();
    };
    $("message").onkeydown = (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.submit();
    };
    $("stop").onclick = () => this.answering?.abort();
    $("earlier").onclick = () => this.page.guarded(() => this.#earlier());
  }

  /** Show the newest turns that the memory keeps. */
  async load() {
    this.clear();
    await this.#earlier();
    $("log").scrollTop = $("log").scrollHeight;
    $("no-messages").hidden = !this.page.memory || $("messages").children.length > 0;
  }

  /** Show none: another memory is being opened. */
  clear() {
    this.answering?.abort();
    $("messages").replaceChildren();
    this.turns = [];
  }

  submit() {
    const message = $("message").value.trim();
    if (!message || this.answering || !this.page.memory) return;
    this.page.guarded(() => this.#ask(message));
  }

  /** Show turns before those that are shown. */
  async #earlier() {
    const memory = this.page.memory;
    const kept = this.sources.all.filter(isTurn);
    const oldest = kept.findIndex((one) => one.name === this.turns[0]?.name);
    const until = oldest < 0 ? kept.length : oldest;
    const chosen = kept.slice(Math.max(0, until - EARLIER), until);
    const texts = await Promise.all(chosen.map((one) => textOf(memory, one.name)));
    if (memory !== this.page.memory) return;
    const turns = chosen.map((one, at) => ({ name: one.name, role: one.note.role, content: saidIn(one, texts[at]) }));
    this.turns.unshift(...turns);
    $("messages").prepend(...turns.map((one) => row(one.role, one.content).item));
    $("earlier").hidden = until <= EARLIER;
  }

  /** The newest turns, as far as they fit. */
  #history() {
    let room = LONGEST_HISTORY;
    const fits = ({ content }) => (room -= content.length) >= 0;
    const newest = this.turns.slice(-TURNS_IN_PROMPT).reverse();
    const first = newest.findIndex((one) => !fits(one));
    const fitting = (first < 0 ? newest : newest.slice(0, first)).reverse();
    const begin = fitting.findIndex((one) => one.role === "user");
    return (begin < 0 ? [] : fitting.slice(begin)).map(({ role, content }) => ({ role, content }));
  }

  async #ask(message) {
    const memory = this.page.memory;
    const question = row("user", message);
    const answer = row("assistant", "");
    answer.item.setAttribute("aria-busy", "true");
    $("messages").append(question.item, answer.item);
    $("no-messages").hidden = true;
    $("message").value = "";
    this.#busy(new AbortController());
    const signal = this.answering.signal;
    try {
      const passages = await this.#stream(message, memory, answer, signal);
      this.turns.push({ role: "user", content: message }, { role: "assistant", content: answer.text.textContent });
      if (passages) this.#drew(answer.item, passages);
      $("announce").textContent = `Answer: ${answer.text.textContent}`;
    } catch (error) {
      if (error.name === "AbortError") answer.note("stopped, and not remembered");
      else this.#failed(message, question, answer, error);
    } finally {
      this.#busy(null);
      answer.item.removeAttribute("aria-busy");
      follow(true);
    }
    if (memory === this.page.memory) await this.page.changed();
  }

  /** Show the pieces as they come; returns the passages of the last chunk. */
  async #stream(content, memory, answer, signal) {
    const json = {
      model: this.page.model,
      messages: [...this.#history(), { role: "user", content }],
      stream: true,
      memory: { id: memory, write: "both", trace: true },
    };
    let passages = null;
    for await (const chunk of events(await send("POST", "v1/chat/completions", { json, signal }))) {
      const piece = chunk.choices?.[0]?.delta?.content;
      if (piece) {
        const atEnd = isAtEnd();
        answer.text.append(piece);
        follow(atEnd);
      }
      passages = chunk.memory?.passages ?? passages;
    }
    if (!answer.text.textContent.trim()) answer.note("the model had nothing to say");
    return passages;
  }

  #drew(item, passages) {
    for (const earlier of document.querySelectorAll("#messages details[open]")) earlier.open = false;
    const open = (passage) => this.page.guarded(() => this.sources.open(passage.source, passage));
    item.append(passageList(passages, open, (name) => this.sources.label(name)));
  }

  /** Put a message back that got no answer, and say why. */
  #failed(message, question, answer, error) {
    const begun = answer.text.textContent !== "";
    if (begun) answer.note(sentence(error.message));
    else {
      question.item.remove();
      answer.item.remove();
      if (!$("message").value) $("message").value = message;
      if (!(error instanceof GoneError) && error.status !== 401) this.page.say(error.message);
    }
    if (error instanceof GoneError || error.status === 401) throw error;
  }

  #busy(controller) {
    const hadFocus = ["stop", "send"].includes(document.activeElement?.id);
    this.answering = controller;
    $("stop").hidden = controller === null;
    $("send").hidden = controller !== null;
    if (hadFocus) $("message").focus();
  }
}

/** One message of the log. */
function row(role, said) {
  const text = make("p", { className: "said", text: said });
  const item = make("li", { className: role }, make("h3", { text: role === "user" ? "You" : "Memory" }), text);
  return { item, text, note: (why) => item.append(make("p", { className: "facts", text: why })) };
}

const isAtEnd = () => $("log").scrollHeight - $("log").scrollTop - $("log").clientHeight < 40;

function follow(atEnd) {
  if (atEnd) $("log").scrollTop = $("log").scrollHeight;
}
