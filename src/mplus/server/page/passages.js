// Passages that an answer drew on, and where they stand in a source's text. Knows how to find them; what a click does it is told.

import { count, make } from "./dialogs.js";

const SHOWN = 5;

/** Where a passage stands in its source's text: [from, to], or null. Of equal texts the one nearest to its place in tokens. */
export function placeOf(passage, text, tokens) {
  const near = tokens ? (passage.start / tokens) * text.length : 0;
  const whole = passage.text ?? "";
  const edges = whole.replace(/^\uFFFD+|\uFFFD+$/g, ""); // half a character at a passage's edge
  for (const wanted of [whole, edges, edges.trim()]) {
    if (!wanted.trim()) continue;
    let best = null;
    for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + 1)) {
      if (best === null || Math.abs(at - near) < Math.abs(best - near)) best = at;
    }
    if (best !== null) return [best, best + wanted.length];
  }
  return null;
}

export function sourceLabel(name) {
  if (name === null || name === undefined) return "(source not known)";
  return name || "(no name)";
}

/** A list of passages, folded; the best first. `open(passage)` is called for the one that is chosen. */
export function passageList(passages, open, nameOf = sourceLabel) {
  const sources = new Set(passages.map((one) => one.source)).size;
  const summary = passages.length ? `Drew on ${count(passages.length, "passage")} of ${count(sources, "source")}` : "Drew on nothing: the memory is empty";
  const list = make("ol", { className: "passages" });
  const add = (from, to) => list.append(...passages.slice(from, to).map((one) => make("li", {}, passageButton(one, open, nameOf))));
  add(0, SHOWN);
  const details = make("details", { className: "drew", open: passages.length > 0 }, make("summary", { text: summary }), list);
  if (passages.length > SHOWN) {
    const more = make("button", { text: `Show ${count(passages.length - SHOWN, "more passage")}`, className: "quiet" });
    more.onclick = () => {
      add(SHOWN);
      list.children[SHOWN].querySelector("button").focus();
      more.remove();
    };
    details.append(more);
  }
  return details;
}

function passageButton(passage, open, nameOf) {
  const isScored = passage.score !== null && passage.score !== undefined;
  const score = make("span", { className: "score", text: isScored ? `score ${passage.score.toFixed(2)}` : "newest text" });
  const from = make("span", { className: "from" }, make("b", { text: nameOf(passage.source) }), score);
  const button = make("button", { className: "passage" }, from, make("span", { className: "snippet", text: (passage.text ?? "").trim() }));
  if (passage.source) button.onclick = () => open(passage);
  else button.disabled = true; // its text has no source to be shown in
  return button;
}
