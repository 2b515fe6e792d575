/** Start uploads: into the collection in use, or again for a document. */
import { chooseFiles } from "./dropped.js";
import { router } from "./router.js";
import { session } from "./session.js";
import { toast } from "./toasts.js";
import { uploads } from "./uploads.js";
import { bytes, counted } from "./format.js";

/** Upload `files`, or those that the user chooses now, into `collection`. */
export async function uploadFiles(files = null, { collection = router.collection, folder = false } = {}) {
  const chosen = files || (await chooseFiles({ folder }));
  const most = session.caller.max_file_bytes;
  const fitting = chosen.filter((file) => file.size <= most);
  if (fitting.length < chosen.length) {
    toast(`${counted(chosen.length - fitting.length, "file is", "files are")} larger than ${bytes(most)} and not sent.`, { kind: "error" });
  }
  if (!fitting.length) return;
  uploads.add(fitting, collection);
  if (router.view === "collections") router.go("documents", { c: collection });
}

/** Ask for the file of a document, and upload it under the same name with the same labels. */
export async function uploadAgain(document) {
  const [file] = await chooseFiles({ several: false });
  if (!file) return;
  const { filename, metadata, tags, key } = document;
  const [upload] = uploads.add([file], document.collection, { filename, metadata, tags, key });
  const told = () => {
    if (!upload.documentId && upload.isOpen) return;
    uploads.removeEventListener("change", told);
    if (upload.documentId && upload.documentId !== document.document_id && !key) {
      toast(`The file differs from the one before. It is a new document; “${filename}” of before is still there.`);
    }
  };
  uploads.addEventListener("change", told);
}
