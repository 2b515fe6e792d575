/** Deletes that can be undone for some seconds: the request is sent afterwards, or when the page is left or the user signs out. */
import { call } from "./api.js";
import { ask } from "./dialogs.js";
import { session } from "./session.js";
import { attempt, toast } from "./toasts.js";

const UNDO_MS = 6000;
const pending = new Map();
const undos = new Map();

/** Undo the newest delete, if its time is not over. */
export const undoDelete = () => [...undos.values()].at(-1)?.();

const sendAll = () => { for (const send of [...pending.values()]) send(true); };
addEventListener("pagehide", sendAll);
session.addEventListener("ending", sendAll);

/** Ask, then delete `path` after the time to undo. `hide(is)` takes the thing off the screen, or puts it back. */
export async function deleteLater({ title, text, name, path, hide, deleted = () => {} }) {
  if (pending.has(path) || !(await ask(title, text, "Delete", { danger: true }))) return;
  hide(true);
  const finish = () => { clearTimeout(timer); pending.delete(path); undos.delete(path); dismiss(); };
  const send = async (isLeaving = false) => {
    finish();
    const done = await attempt(async () => { await call(path, { method: "DELETE", keepalive: isLeaving }); return true; });
    if (done) deleted();
    else hide(false);
  };
  const undo = () => { finish(); hide(false); };
  pending.set(path, send);
  undos.set(path, undo);
  const timer = setTimeout(send, UNDO_MS);
  const dismiss = toast(`Deleted ${name}.`, { action: { label: "Undo", run: undo }, ms: UNDO_MS });
}
