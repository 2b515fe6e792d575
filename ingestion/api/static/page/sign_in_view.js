/** Sign in with a key. */
import { h } from "./dom.js";
import { logo } from "./icons.js";
import { signIn } from "./api.js";
import { session } from "./session.js";
import { router } from "./router.js";

export function signInView(reason) {
  const alert = h("p", { class: "field-error", role: "alert", hidden: !reason }, reason);
  const key = h("input", { class: "input", id: "key", type: "password", required: true, autocomplete: "off", spellcheck: "false", dataset: { autofocus: "" }, "aria-describedby": "key-help" });
  const tenant = h("input", { class: "input", id: "tenant", type: "text", autocomplete: "off", spellcheck: "false", placeholder: "default" });
  const submit = h("button", { class: "button button-primary button-large" }, "Sign in");
  const enter = async (event) => {
    event.preventDefault();
    submit.disabled = true;
    alert.hidden = true;
    session.use(key.value, tenant.value);
    try {
      await signIn();
    } catch (error) {
      if (error.status === 401) return; // the session has ended: this form is shown anew, with the reason
      alert.textContent = error.message;
      alert.hidden = false;
      submit.disabled = false;
    }
  };
  return h("main", { class: "sign-in", id: "main" }, h("form", { class: "sign-in-card", onsubmit: enter },
    logo(),
    h("h1", {}, "Sign in to Pagemill"),
    h("p", { class: "muted" }, "Find the right page in your documents."),
    alert,
    h("label", { class: "field" }, h("span", {}, "API key"), key),
    h("p", { class: "small muted", id: "key-help" }, "An administrator makes one with ", h("code", {}, "pagemill keys create"), ". The key stays in this tab, and is forgotten when you close it."),
    h("details", { class: "details" }, h("summary", {}, "Act for another tenant"),
      h("label", { class: "field" }, h("span", {}, "Tenant"), tenant), h("p", { class: "small muted" }, "Only the key of the settings may name one.")),
    submit,
    h("p", { class: "small muted sign-in-links" }, h("a", { href: router.href("health") }, "Health"), h("a", { href: router.href("settings") }, "Settings"), h("a", { href: "docs" }, "API documentation"))));
}
