// The station page checks itself: fetches what it is about, has verify.js judge it, and says what holds.
//
// Each step stands alone; one that rests on another that failed is not taken for good. The page is read as a person
// reads it: the numbers compared are those in its cells, and then it shows those alone.

import * as verify from "./verify.js";
import { Fault, hex } from "./verify.js";
import { checkLog, checkReceiver } from "./notices.js";

const data = document.getElementById("words");
const words = JSON.parse(data.textContent);
const up = new URL(data.dataset.up || "./", document.baseURI);
const STEPS = ["statement", "root", "certificate", "signature", "shown", "receipt", "checkpoint", "inclusion"];
const OWN_ROOT = "relay own root";
const PAUSES = [0, 1_000, 3_000];
const MAX_PHOTOGRAPH = 72 * 1024 * 1024;

async function get(path, limit, cache = "no-cache") {
  let response;
  try {
    response = await fetch(new URL(path, up), { cache, credentials: "omit", redirect: "error" });
  } catch {
    throw new Fault("fetch", { path });
  }
  if (!response.ok) throw new Fault("fetch", { path });
  if (Number(response.headers.get("Content-Length") ?? 0) > limit) throw new Fault("fault", { detail: path });
  const bytes = new Uint8Array(await response.arrayBuffer());
  if (bytes.length > limit) throw new Fault("fault", { detail: path });
  return bytes;
}

function say(sentence, values = {}) {
  return sentence.replace(/\{(\w+)\}/g, (_, key) => String(values[key] ?? "…"));
}

function element(name, className, content) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (content !== undefined) made.textContent = content;
  return made;
}

// -- the root, and the visitor's own

let root = null;

async function openRoot() {
  root = await verify.openRoot(verify.fromPem(await get("root.pem", 16_384)));
  return root;
}

function ownRoot() {
  try {
    return localStorage.getItem(OWN_ROOT);
  } catch {
    return null; // storage is refused: nothing is remembered
  }
}

function checkOwnRoot() {
  const own = ownRoot();
  if (own && own !== root.fingerprint) throw new Fault("own-root");
}

function showRoot() {
  const section = document.getElementById("own-root");
  const outcome = section.querySelector("[data-root-outcome]");
  const own = ownRoot();
  section.hidden = false;
  section.querySelector("[data-root]").textContent = root ? root.fingerprint.match(/.{4}/g).join(" ") : "—";
  outcome.className = own && own !== root?.fingerprint ? "wrong" : "ok-word";
  outcome.textContent = own ? (own === root?.fingerprint ? words.root_same : words.root_other) : "";
}

async function takeRoot(fingerprint) {
  try {
    if (fingerprint) localStorage.setItem(OWN_ROOT, fingerprint);
    else localStorage.removeItem(OWN_ROOT);
  } catch {
    // not remembered beyond this page
  }
  showRoot();
  await checkAll();
}

function listenForRoot() {
  const section = document.getElementById("own-root");
  const outcome = section.querySelector("[data-root-outcome]");
  const unread = () => {
    outcome.className = "wrong";
    outcome.textContent = words.root_unread;
  };
  const field = section.querySelector("[data-root-text]");
  field.value = ownRoot() ?? "";
  field.addEventListener("change", () => {
    const typed = field.value.replace(/[\s:]/g, "").toLowerCase();
    if (typed === "" || /^[0-9a-f]{64}$/.test(typed)) takeRoot(typed);
    else unread();
  });
  section.querySelector("[data-root-file]").addEventListener("change", async (event) => {
    try {
      const [file] = event.target.files;
      if (!file || file.size > 16_384) throw new Fault("fault");
      const own = await verify.openRoot(verify.fromPem(new Uint8Array(await file.arrayBuffer())));
      field.value = own.fingerprint;
      await takeRoot(own.fingerprint);
    } catch {
      unread();
    }
  });
}

// -- one statement

/** The station and form that the page is about: by its address, since all that is in it may be another's. */
function addressed() {
  const found = /\/tps\/([^/]+)\/([^/]+?)(\/\d+)?(\.html)?$/.exec(location.pathname);
  return found ? `${decodeURIComponent(found[1])}/${decodeURIComponent(found[2])}` : "";
}

/** The signed numbers by the names that the page gives them. */
function signedNumbers(statement) {
  const named = [];
  for (const [key, value] of statement.content.get("tally") ?? []) {
    if (key !== "votes") named.push([words.counts[key] ?? key, { value, style: "" }]);
    else for (const [pair, votes] of value) named.push([say(words.pair, { pair }), { value: votes, style: "pair" }]);
  }
  return new Map(named);
}

/** The numbers that the page shows: a table of rows that have a name, a number and nothing else. */
function shownNumbers(tables, signed) {
  const shown = new Map();
  for (const row of [...tables].flatMap((table) => [...table.querySelectorAll("tr")])) {
    const [label, text, ...more] = [...row.children].map((cell) => cell.textContent);
    if (tables.length > 1 || more.length || shown.has(label) || !/^-?\d{1,3}([.,]\d{3})*$/.test(text ?? "")) {
      throw new Fault("shown", { shown: row.textContent, signed: signed.get(label)?.value ?? "—" });
    }
    shown.set(label, text);
  }
  return shown;
}

/** Every signed number is shown, and no other. What is left standing is made of them here: whatever else the page had
 * in its cells, or hid, is gone. */
function checkNumbers(article, statement) {
  const tables = article.querySelectorAll("table");
  const signed = signedNumbers(statement);
  const shown = shownNumbers(tables, signed);
  for (const label of new Set([...signed.keys(), ...shown.keys()])) {
    const [text, value] = [shown.get(label), signed.get(label)?.value];
    if (text === undefined || Number(text.replace(/[.,]/g, "")) !== value) {
      throw new Fault("shown", { shown: `${label} ${text ?? "—"}`, signed: value ?? "—" });
    }
  }
  if (!tables.length) return;
  const table = element("table", "tally");
  const body = element("tbody");
  for (const [label, text] of shown) {
    const row = element("tr", signed.get(label).style);
    const name = element("th", "", label);
    name.scope = "row";
    row.append(name, element("td", "n", text));
    body.append(row);
  }
  table.append(element("caption", "", words.tally), body);
  tables[0].replaceWith(table);
  if (isHidden(table)) {
    throw new Fault("shown", { shown: "—", signed: words.tally });
  }
}

function checkReason(article, statement) {
  const lines = (text) => text.replace(/\r\n?/g, "\n"); // as a page's text is read
  const shown = lines(article.querySelector("[data-shown=reason]")?.textContent ?? "");
  const signed = lines(statement.content.get("reason") ?? "");
  if (shown !== signed) throw new Fault("shown", { shown, signed });
}

/** The objects that were signed, each once, with the first name that the statement gives it. */
function signedFiles(statement) {
  const files = statement?.content.get("files") ?? [];
  return new Map([...files].reverse().map((file) => [hex(file.get("sha256")), file]));
}

function isHidden(one) {
  return one.checkVisibility?.({ opacityProperty: true, visibilityProperty: true }) === false;
}

/** Every signed photograph has its place in the page, opened or not, and no other has: whether there are any says the
 * statement, since a page can be made without them. */
function checkPlaces(article, statement) {
  const signed = signedFiles(statement);
  const details = article.querySelector("[data-photos]");
  const figures = [...article.querySelectorAll("[data-photos] [data-object]")];
  const lacks = (figure) => {
    const file = signed.get(figure.dataset.object);
    const isPicture = file?.get("media_type").startsWith("image/") && !statement.content.get("sealed");
    return !file || (isPicture && !figure.querySelector("img"));
  };
  const shown = new Set(figures.map((figure) => figure.dataset.object));
  const all = figures.length === signed.size && shown.size === signed.size && !figures.some(lacks);
  if (!all || (details && isHidden(details))) {
    const names = (some) => `${some.length}${some.length ? ": " : ""}${some.map((one) => one.slice(0, 8)).join(", ")}`;
    throw new Fault("shown", {
      shown: `${words.steps.photographs} ${names(figures.map((figure) => figure.dataset.object))}`,
      signed: names([...signed.keys()]),
    });
  }
}

/** Check one statement's article; the outcome of each step: "ok", or the Fault. */
async function check(article) {
  const { statement: id, entry: entryText } = article.dataset;
  const entry = Number(entryText);
  const done = {};
  const held = {};
  const step = async (name, needs, work) => {
    try {
      if (needs.some((need) => done[need] !== "ok")) throw new Fault("earlier");
      held[name] = await work();
      done[name] = "ok";
    } catch (fault) {
      done[name] = fault instanceof Fault ? fault : new Fault("fault", { detail: String(fault) });
    }
  };
  await step("statement", [], async () => {
    const statement = await verify.openStatement(await get(`statement/${id}`, verify.MAX_RECORD), id);
    if (`${statement.tps}/${statement.form}` !== addressed()) throw new Fault("subject");
    return statement;
  });
  await step("root", [], async () => {
    if (!root) await openRoot();
    checkOwnRoot();
  });
  await step("certificate", ["statement", "root"], () => verify.checkSigner(held.statement, root));
  await step("signature", ["certificate"], () => verify.checkStatement(held.statement, held.certificate));
  await step("shown", ["statement"], () => {
    checkNumbers(article, held.statement);
    checkReason(article, held.statement);
    checkPlaces(article, held.statement);
    const station = document.querySelector("[data-shown=station]")?.textContent;
    if (station !== held.statement.tps) throw new Fault("shown", { shown: station, signed: held.statement.tps });
    const device = article.querySelector("[data-shown=device]").textContent;
    if (held.certificate && device !== held.certificate.name) {
      throw new Fault("shown", { shown: device, signed: held.certificate.name });
    }
  });
  await step("receipt", ["statement", "root"], async () => {
    const receipt = await verify.checkReceipt(await get(`receipt/${id}`, verify.MAX_RECORD), held.statement, entry, root);
    await checkReceiver(receipt.receiver, get, root);
  });
  await step("checkpoint", ["root"], () => newestHead(entry));
  await step("inclusion", ["statement", "checkpoint"], () =>
    verify.checkInclusion(held.statement, entry, held.checkpoint, getTile));
  const { note } = held.checkpoint ?? {};
  return { done, note, statement: held.statement, trusted: done.signature === "ok" };
}

const getTile = (path) => get(path, 8_192);

/** The newest head of the log that covers an entry. A cache may serve an older one beside a fresh page: it is asked
 * again, past the browser's own. */
async function newestHead(entry) {
  const receiver = await verify.openCertificate(verify.fromPem(await get("receiver.pem", 16_384)), root, "receiver");
  await checkLog(receiver, get, root, up.href);
  const name = `relay log ${receiver.election}/${receiver.name} ${root.fingerprint}`;
  let head = null;
  for (const pause of PAUSES) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    const raw = await get("checkpoint", verify.MAX_NOTE, pause ? "reload" : "no-cache");
    head = await remember(name, await verify.openCheckpoint(raw, receiver));
    if (entry < head.size) break;
  }
  return head;
}

/** A log only grows: of the head that was seen before and this one, the larger must begin with the smaller, which its
 * tiles prove. The larger one is what counts, also where an old copy is served. */
async function remember(name, now) {
  const known = recall(name);
  if (known && known.size > now.size) {
    await verify.checkGrowth(now, known, getTile);
    return { ...known, note: say(words.old_copy, { size: now.size, seen: known.size }) };
  }
  if (known) await verify.checkGrowth(known, now, getTile);
  try {
    localStorage.setItem(name, JSON.stringify({ size: now.size, root: hex(now.root) }));
  } catch {
    // storage is refused
  }
  return { ...now, note: known?.size && known.size < now.size ? say(words.grown, { seen: known.size }) : "" };
}

function recall(name) {
  try {
    const { size, root: digits } = JSON.parse(localStorage.getItem(name));
    if (!Number.isSafeInteger(size) || size < 0 || !/^[0-9a-f]{64}$/.test(digits)) return null;
    return { size, root: Uint8Array.from(digits.match(/../g), (pair) => parseInt(pair, 16)) };
  } catch {
    return null; // nothing is remembered
  }
}

// -- telling

function boxes(article) {
  const verdict = article.querySelector("[data-verdict]");
  return [verdict, verdict.querySelector("[role=status]")];
}

function tell(article, { done, note, statement, photographs, remark }) {
  const [verdict, status] = boxes(article);
  const steps = { ...done, ...(photographs ? { photographs } : {}) };
  const faults = Object.entries(steps).filter(([, outcome]) => outcome instanceof Fault && outcome.key !== "earlier");
  const wrong = faults.filter(([, fault]) => fault.key !== "behind");
  const pending = faults.length > wrong.length;
  const hasPhotographs = statement ? signedFiles(statement).size > 0 : article.querySelector("[data-photos]") !== null;
  verdict.className = `verdict ${wrong.length ? "bad" : pending ? "unable" : "ok"}`;
  verdict.dataset.outcome = wrong.length ? "bad" : pending ? "pending" : "ok";
  const good = photographs === "ok" ? words.good_all : words.good;
  const told = wrong.length ? words.bad : pending ? words.pending : good;
  status.replaceChildren(element("strong", "", told));
  for (const [name, fault] of wrong) {
    status.append(element("br"), `${words.steps[name]}: `, say(words.faults[fault.key] ?? "", fault.values));
  }
  if (!wrong.length && hasPhotographs && !photographs) status.append(" ", words.good_photos);
  const details = element("details");
  details.append(element("summary", "", words.details));
  const list = element("ul", "checks");
  for (const name of [...STEPS, ...(hasPhotographs ? ["photographs"] : [])]) {
    const outcome = steps[name];
    const line = element("li", "", `${words.steps[name]}: `);
    line.dataset.step = name;
    const behind = outcome?.key === "behind";
    line.dataset.outcome = outcome === "ok" ? "ok" : behind ? "pending" : outcome ? "wrong" : "unknown";
    if (outcome === "ok") line.append(element("span", "ok-word", words.ok));
    else if (behind) line.append(element("span", "quiet", words.faults.behind));
    else if (outcome) line.append(element("span", "wrong", words.wrong), ` ${say(words.faults[outcome.key], outcome.values)}`);
    else line.append(element("span", "quiet", words.unknown));
    const subject = statement && `${statement.tps} · ${statement.form}`;
    const more = { statement: subject, checkpoint: note, photographs: remark }[name];
    if (outcome === "ok" && more) line.append(" ", element("span", "quiet", more));
    list.append(line);
  }
  details.append(list);
  details.open = wrong.length > 0;
  verdict.replaceChildren(status, details);
}

function tellUnable(article, why) {
  const [verdict, status] = boxes(article);
  verdict.className = "verdict unable";
  verdict.dataset.outcome = "unable";
  status.replaceChildren(element("strong", "", words.unable), element("br"), words.faults[why]);
  for (const image of article.querySelectorAll("img")) image.src = image.dataset.src;
}

// -- photographs: what is shown is the very bytes that were hashed

async function checkPhotographs(article, state) {
  const signed = signedFiles(state.statement);
  const figures = [...article.querySelectorAll("[data-object]")];
  const isWhole = figures.length === signed.size && !figures.some((one) => isHidden(one.querySelector("img") ?? one));
  let outcome = isWhole ? "ok" : new Fault("hash");
  for (const figure of figures) {
    const told = figure.querySelector("[data-outcome]");
    const image = figure.querySelector("img");
    try {
      const file = signed.get(figure.dataset.object);
      if (!file) throw new Fault("hash");
      const bytes = await get(`object/${figure.dataset.object}`, MAX_PHOTOGRAPH);
      if (hex(await verify.sha256(bytes)) !== figure.dataset.object) throw new Fault("hash");
      if (image) image.src = URL.createObjectURL(new Blob([bytes], { type: file.get("media_type") }));
      figure.querySelector("figcaption a")?.replaceChildren(file.get("name"));
      const sized = bytes.length === file.get("size");
      if (!sized) state.remark = words.photo_size;
      told.className = sized ? "ok-word" : "quiet";
      told.textContent = sized ? words.photo_ok : words.photo_size;
    } catch (fault) {
      outcome = fault instanceof Fault ? fault : new Fault("fault", { detail: String(fault) });
      image?.remove(); // what is not what was signed is not shown as if it were
      told.className = "wrong";
      told.textContent = words.photo_wrong;
    }
  }
  state.photographs = outcome;
  tell(article, state);
}

function waitForPhotographs(article, state) {
  const details = article.querySelector("[data-photos]");
  if (!details) return;
  if (state.waiting) state.waiting.abort();
  state.waiting = new AbortController();
  const start = () => {
    if (details.open && !state.photographs) checkPhotographs(article, state);
  };
  details.addEventListener("toggle", start, { signal: state.waiting.signal });
  start();
}

// -- all of it

const states = new Map();

async function checkAll() {
  const articles = [...document.querySelectorAll("[data-statement]")];
  const why = await verify.unable();
  if (why) {
    for (const article of articles) tellUnable(article, why);
    return;
  }
  for (const article of articles) {
    const state = { ...states.get(article), ...(await check(article)) };
    states.set(article, state);
    tell(article, state);
    waitForPhotographs(article, state);
  }
  showRoot();
}

/** Photographs are fetched once, by the check: a picture that was not hashed is not shown, and of those in the page
 * nothing stays but their places. */
function emptyPictures(article) {
  for (const one of article.querySelectorAll("picture, svg, video, canvas, object, embed, iframe, input")) one.remove();
  for (const image of article.querySelectorAll("img")) {
    const figure = image.closest("[data-object]");
    if (!figure || figure.querySelector("img") !== image) {
      image.remove();
      continue;
    }
    const empty = element("img");
    for (const name of ["alt", "width", "height"]) empty.setAttribute(name, image.getAttribute(name) ?? "");
    empty.dataset.src = new URL(`object/${figure.dataset.object}`, up);
    image.replaceWith(empty);
  }
}

for (const article of document.querySelectorAll("[data-statement]")) {
  boxes(article)[1].textContent = words.working;
  emptyPictures(article);
}
listenForRoot();
checkAll();
