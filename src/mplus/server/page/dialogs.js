// Questions to the person, each a native <dialog>: Esc closes it, and the focus goes back. Knows no server.

export const $ = (id) => document.getElementById(id);

/** Make an element; what is given as text stays text, whatever is in it. */
export function make(tag, { text, type, label, ...rest } = {}, ...children) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (tag === "button") element.type = type ?? "button";
  if (label !== undefined) element.setAttribute("aria-label", label);
  Object.assign(element, rest);
  element.append(...children);
  return element;
}

/** Ask something; `act` is tried when the person agrees, and its error is shown in the dialog. False where they do not. */
function ask(kind, act) {
  const dialog = $(`${kind}-dialog`);
  const form = dialog.querySelector("form");
  const agree = form.querySelector("[type=submit]");
  const wrong = $(`${kind}-error`);
  wrong.textContent = "";
  return new Promise((resolve) => {
    let agreed = false;
    form.onsubmit = async (event) => {
      event.preventDefault();
      if (agree.disabled) return;
      agree.disabled = true;
      wrong.textContent = "";
      try {
        await act();
        agreed = true;
        dialog.close();
        resolve(true); // the event of its end comes later, and by then the dialog may ask something else
      } catch (error) {
        wrong.textContent = sentence(error.message);
      } finally {
        agree.disabled = false;
      }
    };
    dialog.onclose = () => dialog.open || resolve(agreed);
    dialog.showModal();
  });
}

/** Ask for a name, to begin with `value`; `act(name)` does it. */
export function askName({ title, text, ok, value = "" }, act) {
  $("name-title").textContent = title;
  $("name-text").textContent = text;
  $("name-ok").textContent = ok;
  const field = $("name");
  field.value = value;
  const answer = ask("name", () => act(field.value.trim()));
  field.select();
  return answer;
}

/** Ask whether something may go for good; `act()` does it. */
export function askAgreement({ title, text, ok }, act) {
  $("confirm-title").textContent = title;
  $("confirm-text").textContent = text;
  $("confirm-ok").textContent = ok;
  return ask("confirm", act);
}

/** Ask for a key; `act(key)` tries it. */
export function askKey(reason, act) {
  const field = $("key");
  field.value = "";
  const answer = ask("key", () => act(field.value));
  $("key-error").textContent = reason ? sentence(reason) : "";
  return answer;
}

/** Show a text, with one part of it marked. */
export function showText({ title, facts, text, from = 0, to = 0 }) {
  $("text-title").textContent = title;
  $("text-facts").textContent = facts;
  const mark = make("mark", { text: text.slice(from, to) });
  $("text").replaceChildren(text.slice(0, from), ...(to > from ? [mark] : []), text.slice(to));
  $("text-dialog").showModal();
  $("text").focus();
  if (to > from) mark.scrollIntoView({ block: "center" });
  else $("text").scrollTop = 0;
}

/** A message of the server as a sentence for a person. */
export function sentence(message) {
  const text = String(message).trim();
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

export const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

for (const button of document.querySelectorAll("dialog [data-close]")) button.onclick = () => button.closest("dialog").close();
