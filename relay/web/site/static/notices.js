// Which receivers the election office names, in the browser, from the notices that the server sends with the log.
//
// A certificate that the root issued once may have been revoked since. The office's notices say so: each fills a slot
// (topic and part), and the newest version of a slot is in force. A server can serve old ones: so the newest that this
// browser saw are remembered as they were signed, and count before what is served. It can also show another receiver's
// log, of which nothing is remembered: so the log that was shown at an address is remembered, too.

import {
  Fault, base64, checkSign1, decodeCbor, hex, join, readCertificate, readSign1, same, sha256, text,
} from "./verify.js";

export const MAX_NOTICES = 4 * 1024 * 1024;
const NOTICE_TYPE = "application/vnd.relay.notice+cbor";
const TOPICS = ["receivers", "revocations"];
const PARTS = 4_096;
/** What stands before an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410); a node's id is the hash of the whole. */
const KEY_HEAD = Uint8Array.of(0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00);

function require(condition, detail) {
  if (!condition) throw new Fault("fault", { detail });
}

/** Throw unless this receiver's certificate is one that the notices in force name, and none that they revoke. */
export async function checkReceiver(certificate, get, root) {
  await checkNamed(certificate, await inForce(get, root));
}

/** As `checkReceiver`, for the receiver whose log's head is shown. Throws also where another log was shown at `place`
 * before, whose receiver still stands. Says which notices are served in older versions than were seen, and which logs
 * stood there before. */
export async function checkLog(certificate, get, root, place) {
  const notices = await inForce(get, root);
  await checkNamed(certificate, notices);
  return { older: notices.older, before: await follow(certificate, notices, root, place) };
}

// -- the notices in force

const fetched = new Map();

/** The notices in force, fetched once for each page and root. */
function inForce(get, root) {
  if (!fetched.has(root.fingerprint)) {
    const found = get("notices.pem", MAX_NOTICES).then((served) => openNotices(served, root));
    found.catch(() => fetched.delete(root.fingerprint)); // asked for again the next time
    fetched.set(root.fingerprint, found);
  }
  return fetched.get(root.fingerprint);
}

/** What the office says: `receivers` (certificates, by their names), `revoked` (reasons, by a node's id), and the `older`
 * ones among what is served. Remembers the newest of each slot. */
export async function openNotices(served, root, storage = ownStorage()) {
  const known = await recall(root, storage);
  const newest = new Map(known);
  const shown = new Map();
  for (const raw of blocks(served)) {
    const notice = await openNotice(raw, root);
    if (!(shown.get(notice.slot)?.version >= notice.version)) shown.set(notice.slot, notice);
    if (!(newest.get(notice.slot)?.version >= notice.version)) newest.set(notice.slot, notice);
  }
  remember(root, newest, storage);
  const older = [];
  for (const [slot, { version }] of known) {
    const now = shown.get(slot)?.version ?? 0;
    if (now < version) older.push({ slot, served: now, seen: version });
  }
  return { ...merge(newest), older };
}

/** The notices in a PEM text (RFC 7468): nothing else may stand in it. */
function blocks(bytes) {
  require(bytes.length <= MAX_NOTICES, "notices: size");
  const whole = text(bytes).replaceAll("\r\n", "\n").trim();
  const block = /-----BEGIN RELAY NOTICE-----\n([A-Za-z0-9+/=\n]*)-----END RELAY NOTICE-----(?:\n|$)/y;
  const found = [];
  while (block.lastIndex < whole.length) {
    const match = block.exec(whole);
    require(match, "notices: PEM");
    found.push(base64(match[1].replaceAll("\n", "")));
  }
  require(found.length, "notices: PEM");
  return found;
}

/** A notice that the root signed for this election: its slot, version and what it says. */
export async function openNotice(raw, root) {
  const envelope = readSign1(raw);
  require(envelope.header.size === 4 && envelope.header.get(3) === NOTICE_TYPE, "notice: header");
  require(envelope.unprotected.size === 0 && envelope.payload !== null, "notice: payload");
  if (!same(envelope.certificate, root.der)) throw new Fault("role");
  await checkSign1(envelope, root.key);
  const content = decodeCbor(envelope.payload);
  require(content instanceof Map, "notice: payload");
  const [election, topic, part, version] = ["election", "topic", "part", "version"].map((key) => content.get(key));
  require(Number.isSafeInteger(version) && version >= 1, "notice: version");
  require(Number.isSafeInteger(part) && part >= 0 && part < PARTS, "notice: part");
  const [issuer, subject] = [`relay://${election}/authority`, `${election}/${topic}/${part}`];
  const claimed = envelope.issuer === issuer && envelope.subject === subject;
  if (!claimed || election !== root.election) throw new Fault("foreign");
  return { raw, slot: `${topic}/${part}`, topic, version, content };
}

function merge(notices) {
  const receivers = new Map();
  const revoked = new Map();
  for (const [, { topic, content }] of [...notices].sort(([left], [right]) => (left < right ? -1 : 1))) {
    if (!TOPICS.includes(topic)) continue;
    const rows = content.get(topic === "receivers" ? "receivers" : "revoked");
    require(Array.isArray(rows) && rows.every(Array.isArray), `notice: ${topic}`);
    for (const [first, second, third] of rows) {
      if (topic === "receivers") {
        require(typeof first === "string" && third instanceof Uint8Array, "notice: receiver");
        receivers.set(first, third);
      } else {
        require(first instanceof Uint8Array && first.length === 32 && typeof third === "string", "notice: revocation");
        revoked.set(hex(first), third);
      }
    }
  }
  return { receivers, revoked };
}

async function checkNamed(certificate, { receivers, revoked }) {
  const reason = revoked.get(hex(await sha256(join(KEY_HEAD, certificate.key))));
  if (reason !== undefined) throw new Fault("revoked-receiver", { name: certificate.name, reason });
  // A receiver may have been given a newer certificate for the same key.
  const named = receivers.get(certificate.name);
  const holds = named !== undefined && same(readCertificate(named).key, certificate.key);
  if (!holds) throw new Fault("unnamed-receiver", { name: certificate.name });
}

// -- what this browser saw before

function ownStorage() {
  try {
    return globalThis.localStorage;
  } catch {
    return null; // storage is refused: nothing is remembered
  }
}

function load(storage, key) {
  try {
    return JSON.parse(storage.getItem(key));
  } catch {
    return null;
  }
}

function save(storage, key, value) {
  try {
    storage.setItem(key, JSON.stringify(value));
  } catch {
    // storage is refused, or full
  }
}

const NOTICES_SEEN = (root) => `relay notices ${root.fingerprint}`;
const LOGS_SEEN = (root, place) => `relay logs ${root.fingerprint} ${place}`;

/** The notices that were seen before, by slot. What was damaged since is forgotten. */
async function recall(root, storage) {
  const found = new Map();
  const kept = load(storage, NOTICES_SEEN(root));
  for (const letters of Array.isArray(kept) ? kept : []) {
    try {
      const notice = await openNotice(base64(letters), root);
      found.set(notice.slot, notice);
    } catch {
      // not one of ours
    }
  }
  return found;
}

function remember(root, notices, storage) {
  const kept = [...notices.values()].filter(({ topic }) => TOPICS.includes(topic));
  save(storage, NOTICES_SEEN(root), kept.map(({ raw }) => letters(raw)));
}

function letters(bytes) {
  let made = "";
  for (const byte of bytes) made += String.fromCharCode(byte);
  return btoa(made);
}

/** Remember the log that is shown at this place; those that were shown there before, oldest first. */
async function follow(certificate, notices, root, place, storage = ownStorage()) {
  const kept = load(storage, LOGS_SEEN(root, place));
  const spelled = (one) => typeof one?.name === "string" && /^[0-9a-f]{64}$/.test(one.key);
  const logs = (Array.isArray(kept) ? kept : []).filter(spelled);
  const last = logs.at(-1);
  if (last && last.name !== certificate.name && (await stands(last, notices))) {
    throw new Fault("another-log", { now: certificate.name, before: last.name });
  }
  const before = logs.filter((one) => one.name !== certificate.name);
  save(storage, LOGS_SEEN(root, place), [...before, { name: certificate.name, key: hex(certificate.key) }]);
  return before.map((one) => one.name);
}

async function stands({ name, key }, notices) {
  const bytes = Uint8Array.from(key.match(/../g), (pair) => parseInt(pair, 16));
  try {
    await checkNamed({ name, key: bytes }, notices);
    return true;
  } catch {
    return false;
  }
}
