/** One dead letter: its cause, the history of its document, replay and discard. */
import { h, show } from "./dom.js";
import { call, part } from "./api.js";
import { counted, dateTime } from "./format.js";
import { openDialog } from "./dialogs.js";
import { session } from "./session.js";
import { attempt, toast } from "./toasts.js";
import { button, failure, skeletons } from "./widgets.js";

const DONE = { replay: "queued again", discard: "discarded; the document stays failed" };

/** Show the letter. Resolves to the letter as it is now where it was replayed or discarded. */
export function openLetter(letter) {
  return openDialog(letter.filename || "A record that is no job", (close) => {
    const body = h("div", { class: "dialog-body" }, skeletons(5, "skeleton-lines"));
    const load = async () => {
      try {
        show(body, content(await call(`/dead-letters/${part(letter.letter)}`), close));
      } catch (error) { show(body, failure(error, load)); }
    };
    load();
    return body;
  }, { className: "dialog-letter" });
}

function content(letter, close) {
  const why = h("input", { class: "input", type: "text", maxlength: 1000, placeholder: "Why (it is kept with the letter)", "aria-label": "Why", autocomplete: "off" });
  const act = async (action, event) => {
    event.currentTarget.disabled = true;
    const pressed = event.currentTarget;
    const now = await attempt(() => call(`/dead-letters/${part(letter.letter)}/${action}`, { method: "POST", json: { why: why.value.trim() } }));
    pressed.disabled = false;
    if (!now) return;
    toast(`“${letter.filename || letter.letter}” is ${DONE[action]}.`);
    close(now);
  };
  const facts = [["Cause", h("code", {}, letter.code)], ["Stage", letter.stage], ["Collection", letter.collection], ["Attempts", letter.attempts && counted(letter.attempts, "attempt")],
    ["Failed", dateTime(letter.time)], ["Letter", letter.state], ["Document now", letter.document_state || "has no record"]].filter(([, value]) => value);
  return [
    h("p", { class: "failure failure-plain" }, letter.message),
    h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", {}, h("dt", { class: "muted small" }, name), h("dd", {}, value)))),
    letter.mark && h("p", { class: "note-plain small" }, `${letter.mark.action} by ${letter.mark.by}${letter.mark.at ? `, ${dateTime(letter.mark.at)}` : ""}${letter.mark.why ? `: ${letter.mark.why}` : ""}`),
    letter.history.length > 0 && h("section", {}, h("h3", {}, "History"), h("ol", { class: "timeline" }, letter.history.map(event))),
    letter.stacktrace && h("details", { class: "details" }, h("summary", {}, `Stack trace${letter.exception ? `: ${letter.exception}` : ""}`), h("pre", { class: "trace", tabIndex: 0 }, letter.stacktrace)),
    session.mayWrite && letter.state === "open" && h("div", { class: "letter-actions" }, why,
      !letter.replayable && h("p", { class: "small muted" }, "The letter has a part of its record only: upload the file again."),
      h("div", { class: "dialog-actions" },
        button("Discard", (event) => act("discard", event)),
        button("Replay", (event) => act("replay", event), { kind: "primary", icon: "again", disabled: !letter.replayable }))),
  ];
}

const event = ({ time, event: name, attempt: number, detail }) => h("li", {},
  h("span", { class: "timeline-name" }, name, number > 0 && h("span", { class: "muted small" }, ` attempt ${number}`)),
  detail && h("span", { class: "small muted" }, detail),
  h("time", { class: "small muted tabular", datetime: time }, dateTime(time)));
