/** Who uses the page: the key, kept in this tab only, and what the API says of it. */

const KEY = "pagemill-key";
const TENANT = "pagemill-tenant";

class Session extends EventTarget {
  key = sessionStorage.getItem(KEY) || "";
  tenant = sessionStorage.getItem(TENANT) || "";
  /** The answer of `GET /caller`; null while signed out. */
  caller = null;

  get maySignIn() { return Boolean(this.key); }
  get mayWrite() { return Boolean(this.caller) && this.caller.role !== "read"; }

  /** The headers of a request. A header takes bytes: the key is sent as UTF-8. */
  get headers() {
    if (!this.key) return {};
    const bytes = new TextEncoder().encode(this.key);
    const tenant = this.tenant ? { "Pagemill-Tenant": this.tenant } : {};
    return { Authorization: `Bearer ${String.fromCharCode(...bytes)}`, ...tenant };
  }

  use(key, tenant = "") {
    this.key = key.trim();
    this.tenant = tenant.trim();
    sessionStorage.setItem(KEY, this.key);
    if (this.tenant) sessionStorage.setItem(TENANT, this.tenant);
    else sessionStorage.removeItem(TENANT);
  }

  signedIn(caller) {
    this.caller = caller;
    this.dispatchEvent(new Event("in"));
  }

  /** Forget the key. `reason`: why, where the user did not ask for it. */
  end(reason = "") {
    if (!this.key && !this.caller) return;
    this.dispatchEvent(new Event("ending")); // the last requests with the key
    sessionStorage.removeItem(KEY);
    sessionStorage.removeItem(TENANT);
    this.key = this.tenant = "";
    this.caller = null;
    this.dispatchEvent(new CustomEvent("out", { detail: reason }));
  }
}

export const session = new Session();
