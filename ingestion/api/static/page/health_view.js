/** What runs: the servers for everybody; workers, lag and throughput for a key. */
import { h, show } from "./dom.js";
import { call, readiness } from "./api.js";
import { line, stackedBars } from "./charts.js";
import { count, counted, since } from "./format.js";
import { icon } from "./icons.js";
import { every } from "./polling.js";
import { router } from "./router.js";
import { session } from "./session.js";
import { pagesDone } from "./states.js";
import { bar, failure, skeletons, viewHead } from "./widgets.js";

const EVERY_MS = 3000;
const MINUTES = 30;
const MOST_SAMPLES = 60;
const LEAST_ROOM = 20;
const NAMES = { kafka: "Kafka", milvus: "Milvus", mongodb: "MongoDB", redis: "Redis", s3: "Object store" };
/** The lag since the page was loaded: the API tells the present one only. */
const lags = [];

export function open() {
  const servers = h("div", {}, skeletons(1, "skeleton-rows"));
  const system = h("div", { class: "system" }, session.caller ? skeletons(4, "skeleton-tiles") : signInHint());
  const said = h("span", {}, " ");
  let isOpen = true;

  async function look() {
    const [ready, found] = await Promise.all([readiness(), session.caller ? call(`/system?minutes=${MINUTES}`).catch((error) => error) : null]);
    if (!isOpen) return;
    show(said, ready.status === "ready" ? "All servers answer." : ready.detail || "Something does not answer.");
    show(servers, serverList(ready.dependencies || {}, found?.outages || []));
    if (found instanceof Error) show(system, failure(found, look));
    else if (found) drawSystem(system, found);
  }
  const end = every(EVERY_MS, look);
  return {
    title: "Health",
    view: h("div", { class: "view" }, viewHead("Health", said), servers, system),
    close: () => { isOpen = false; end(); },
  };
}

const signInHint = () => h("p", { class: "muted" }, "Workers, lag and throughput need a key. ", h("a", { href: router.href("documents") }, "Sign in"));

/** `outages`: the open breakers of workers, which may see a server differently from the API. */
function serverList(dependencies, outages) {
  const broken = new Map(outages.map((one) => [one.dependency, one]));
  const others = [...broken.keys()].filter((name) => !(name in dependencies));
  const cards = [...Object.entries(dependencies), ...others.map((name) => [name, { up: null }])].map(([name, { up, since: down, cause }]) => {
    const breaker = broken.get(name);
    const isBad = up === false || breaker;
    const text = up === false ? `down for ${since(down)}${cause ? `: ${cause}` : ""}` : breaker ? `workers wait for it: ${since(breaker.since)}` : "answers";
    return h("li", { class: `server ${isBad ? "server-bad" : ""}` }, h("span", { class: "dot", "aria-hidden": "true" }),
      h("div", {}, h("strong", {}, NAMES[name] || name), h("p", { class: "small muted" }, `${text}, breaker ${breaker ? "open" : "closed"}`)));
  });
  return cards.length ? h("ul", { class: "servers", "aria-label": "Servers" }, cards) : failure({ message: "The API does not say which servers answer." });
}

function drawSystem(parent, found) {
  const isOperator = found.scope === "installation";
  show(parent,
    h("div", { class: "gauges" }, throughput(found), pagesGauge(found), isOperator && lagGauge(found.lag), workGauge(found)),
    isOperator && workers(found), inWork(found.in_work));
}

const gauge = (title, number, unit, chart, note) => h("section", { class: "gauge", "aria-label": title },
  h("h2", { class: "muted" }, title), h("p", { class: "gauge-number tabular" }, number, unit && h("span", { class: "small muted" }, ` ${unit}`)), chart, h("p", { class: "small muted" }, note));

/** The last MINUTES minutes, also those in which nothing was finished. */
function byMinute(finished) {
  const known = new Map(finished.map((one) => [Date.parse(one.minute), one]));
  const now = Math.floor(Date.now() / 60000) * 60000;
  return Array.from({ length: MINUTES }, (_, index) => {
    const at = now - (MINUTES - 1 - index) * 60000;
    return { at, ready: 0, failed: 0, pages: 0, ...known.get(at) };
  });
}

const clock = (at) => new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
const total = (minutes, name) => minutes.reduce((sum, one) => sum + one[name], 0);

function throughput({ finished }) {
  const minutes = byMinute(finished);
  const [ready, failed] = [total(minutes, "ready"), total(minutes, "failed")];
  const bars = minutes.map((one) => ({ values: [one.ready, one.failed], title: `${clock(one.at)}: ${one.ready} ready, ${one.failed} failed` }));
  return gauge("Documents finished", count(ready + failed), `in ${MINUTES} min`, stackedBars(bars, ["good", "bad"], `${ready} ready and ${failed} failed in ${MINUTES} minutes`), failed ? `${count(ready)} ready, ${count(failed)} failed` : "none failed");
}

function pagesGauge({ finished }) {
  const minutes = byMinute(finished);
  const pages = total(minutes, "pages");
  const best = Math.max(...minutes.map((one) => one.pages));
  const bars = minutes.map((one) => ({ values: [one.pages], title: `${clock(one.at)}: ${counted(one.pages, "page")}` }));
  return gauge("Pages ready", count(pages), `in ${MINUTES} min`, stackedBars(bars, ["good"], `${pages} pages in ${MINUTES} minutes`), best ? `${count(best)} in the best minute` : "no page in this time");
}

function lagGauge(lag) {
  if (!lag) return gauge("Lag", "–", "", line([], 2, "not known"), "Kafka does not answer");
  const records = lag.reduce((sum, one) => sum + one.records, 0);
  lags.push(records);
  if (lags.length > MOST_SAMPLES) lags.shift();
  const waiting = lag.filter((one) => one.records).map((one) => `${one.topic}: ${count(one.records)}`);
  return gauge("Lag", count(records), records === 1 ? "record" : "records", line(lags, Math.max(LEAST_ROOM, lags.length), `${records} records that no worker has committed`), waiting.join(", ") || "all jobs are taken");
}

function workGauge({ in_work: inWork }) {
  const [done, all] = [inWork.reduce((sum, one) => sum + one.pages_done, 0), inWork.reduce((sum, one) => sum + one.pages, 0)];
  return gauge("In work", count(inWork.length), inWork.length === 1 ? "document" : "documents", h("div", { class: "gauge-bar" }, bar(inWork.length ? done : 0, Math.max(1, all), "pages of the documents in work")), inWork.length ? `${count(done)} of ${counted(all, "page")} done` : "workers wait for uploads");
}

function workers(found) {
  if (!found.workers) return failure({ message: "Workers and lag are not known while Kafka does not answer." });
  if (!found.workers.length) return h("p", { class: "failure", role: "alert" }, icon("warning"), "No worker runs: uploads are accepted, and wait. Start one with `pagemill serve worker`.");
  return h("section", { class: "panel" }, h("h2", { class: "panel-head" }, counted(found.workers.length, "worker")),
    h("ul", { class: "lines" }, found.workers.map((one) => h("li", { class: "line" },
      h("span", { class: `pill ${one.in_group ? "pill-good" : "pill-bad"}` }, h("span", { class: "dot", "aria-hidden": "true" }), h("code", {}, one.worker)),
      h("span", { class: "muted small" }, one.in_group ? (one.document_ids.length ? `${counted(one.document_ids.length, "document")} in work` : "waits for work") : "has lost its place in the group")))));
}

function inWork(documents) {
  if (!documents.length) return null;
  return h("section", { class: "panel" }, h("h2", { class: "panel-head" }, "In work now"), h("ul", { class: "lines" }, documents.slice(0, 50).map((one) => h("li", { class: "line" },
    h("div", { class: "line-text" }, h("strong", {}, one.filename), h("span", { class: "muted small" }, [one.collection, one.stage, one.attempts > 1 && `attempt ${one.attempts}`].filter(Boolean).join(" · "))),
    pagesDone(one)))));
}
