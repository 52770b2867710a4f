// Verification of one statement, in the browser, from the bytes that the server sends. Pure: no page, no fetching.
//
// What is checked, and by which document: CBOR core deterministic (RFC 8949 §4.2.1), COSE_Sign1 (RFC 9052), X.509
// (RFC 5280) as far as relay uses it, Ed25519 (RFC 8032, by WebCrypto), Merkle trees (RFC 9162 §2.1), COSE Receipts
// (RFC 9942), signed notes and tiles (C2SP signed-note, tlog-checkpoint, tlog-tiles).
//
// Every length is bounded before anything is allocated for it. Whatever is not exactly as it should be is a Fault.

export const MAX_RECORD = 60_000;
export const MAX_NOTE = 16_384;
const MAX_CERTIFICATE = 8_192;
const MAX_DEPTH = 8;
const MAX_PATH = 63;
const TILE = 256;

/** Something that does not hold. `key` names the sentence that tells it, `values` what the sentence quotes. */
export class Fault extends Error {
  constructor(key, values = {}) {
    super(`${key} ${JSON.stringify(values)}`);
    this.key = key;
    this.values = values;
  }
}

function require(condition, detail) {
  if (!condition) throw new Fault("fault", { detail });
}

// -- bytes

export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

export function same(left, right) {
  return left.length === right.length && left.every((byte, at) => byte === right[at]);
}

export function join(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export async function sha256(bytes) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}

const utf8 = (text) => new TextEncoder().encode(text);

export function text(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Fault("fault", { detail: "UTF-8" });
  }
}

export function base64(letters) {
  try {
    const bytes = Uint8Array.from(atob(letters), (letter) => letter.charCodeAt(0));
    if (btoa(String.fromCharCode(...bytes)) === letters) return bytes; // its one spelling
  } catch {
    // told below
  }
  throw new Fault("fault", { detail: "base64" });
}

// -- signatures

/** Whether this browser can check at all: null, or the key of the sentence that tells why not. */
export async function unable() {
  if (!globalThis.isSecureContext || !globalThis.crypto?.subtle) return "insecure";
  try {
    // The public key of RFC 8032, §7.1, test 1.
    const known = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    await importKey(Uint8Array.from(known.match(/../g), (pair) => parseInt(pair, 16)));
    return null;
  } catch {
    return "no-ed25519";
  }
}

function importKey(key) {
  return crypto.subtle.importKey("raw", key, { name: "Ed25519" }, false, ["verify"]);
}

/** Throw unless `signature` is the one by `key` (32 bytes) over `data`. */
async function checkSignature(key, signature, data) {
  let holds = false;
  try {
    holds = await crypto.subtle.verify({ name: "Ed25519" }, await importKey(key), signature, data);
  } catch {
    // a key that is none: the signature does not hold
  }
  if (!holds) throw new Fault("signature");
}

// -- CBOR

/** The value that `bytes` spell: numbers, Uint8Array, text, arrays, Map, true, false, null; nothing else. */
export function decodeCbor(bytes, limit = MAX_RECORD) {
  require(bytes.length <= limit, "CBOR: size");
  let at = 0;

  function head() {
    require(at < bytes.length, "CBOR: end");
    const initial = bytes[at++];
    const [major, low] = [initial >> 5, initial & 31];
    if (major === 7) {
      require(low >= 20 && low <= 22, "CBOR: type");
      return [major, low];
    }
    require(major !== 6, "CBOR: tag");
    if (low < 24) return [major, low];
    require(low <= 27, "CBOR: indefinite length");
    const width = 1 << (low - 24);
    require(at + width <= bytes.length, "CBOR: end");
    let value = 0n;
    for (const end = at + width; at < end; at++) value = (value << 8n) | BigInt(bytes[at]);
    require(value >= { 1: 24n, 2: 1n << 8n, 4: 1n << 16n, 8: 1n << 32n }[width], "CBOR: not the shortest");
    return [major, value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value];
  }

  function take(length) {
    require(length <= bytes.length - at, "CBOR: length");
    at += length;
    return bytes.slice(at - length, at);
  }

  function item(depth) {
    const [major, argument] = head();
    if (major === 0) return argument;
    if (major === 1) return typeof argument === "bigint" ? -1n - argument : -1 - argument;
    if (major === 2) return take(argument);
    if (major === 3) return text(take(argument));
    if (major === 7) return { 20: false, 21: true, 22: null }[argument];
    require(depth > 0 && argument <= bytes.length - at, "CBOR: depth or length");
    return major === 4 ? Array.from({ length: argument }, () => item(depth - 1)) : map(argument, depth);
  }

  function map(pairs, depth) {
    const found = new Map();
    let previous = new Uint8Array();
    for (let count = 0; count < pairs; count++) {
      const start = at;
      const key = item(0);
      require(["number", "bigint", "string"].includes(typeof key), "CBOR: key");
      const spelled = bytes.slice(start, at);
      require(before(previous, spelled), "CBOR: order of keys");
      previous = spelled;
      found.set(key, item(depth - 1));
    }
    return found;
  }

  const value = item(MAX_DEPTH);
  require(at === bytes.length, "CBOR: trailing bytes");
  return value;
}

function before(left, right) {
  for (let at = 0; at < Math.min(left.length, right.length); at++) {
    if (left[at] !== right[at]) return left[at] < right[at];
  }
  return left.length < right.length;
}

function cborHead(major, length) {
  if (length < 24) return Uint8Array.of((major << 5) | length);
  if (length < 256) return Uint8Array.of((major << 5) | 24, length);
  if (length < 65_536) return Uint8Array.of((major << 5) | 25, length >> 8, length & 255);
  throw new Fault("fault", { detail: "CBOR: size" });
}

// -- COSE

/** A tagged COSE_Sign1 of relay: header as signed and as a map, payload (null where detached), signature. */
export function readSign1(raw) {
  require(raw.length <= MAX_RECORD && raw[0] === 0xd2, "COSE: tag");
  const parts = decodeCbor(raw.slice(1));
  require(Array.isArray(parts) && parts.length === 4, "COSE: array");
  const [protectedBytes, unprotected, payload, signature] = parts;
  require(protectedBytes instanceof Uint8Array && unprotected instanceof Map, "COSE: headers");
  require(payload === null || payload instanceof Uint8Array, "COSE: payload");
  require(signature instanceof Uint8Array && signature.length === 64, "COSE: signature");
  const header = decodeCbor(protectedBytes);
  require(header instanceof Map && header.get(1) === -8, "COSE: algorithm");
  const [claims, certificate] = [header.get(15), header.get(33)];
  require(claims instanceof Map && claims.size === 2, "COSE: claims");
  require(certificate instanceof Uint8Array && certificate.length <= MAX_CERTIFICATE, "COSE: certificate");
  const [issuer, subject] = [claims.get(1), claims.get(2)];
  require(typeof issuer === "string" && typeof subject === "string", "COSE: claims");
  return { protectedBytes, header, unprotected, payload, signature, issuer, subject, certificate };
}

/** Check a COSE_Sign1 by `key`; `detached` is the payload where the envelope has none (Sig_structure, §4.4). */
export async function checkSign1(envelope, key, detached = null) {
  const payload = envelope.payload ?? detached;
  require(payload !== null, "COSE: payload");
  const signed = join(
    cborHead(4, 4), cborHead(3, 10), utf8("Signature1"),
    cborHead(2, envelope.protectedBytes.length), envelope.protectedBytes,
    cborHead(2, 0),
    cborHead(2, payload.length), payload,
  );
  await checkSignature(key, envelope.signature, signed);
}

// -- certificates

/** One DER element at `at`: its tag, content, whole bytes and end. Definite lengths, shortest form. */
function element(bytes, at) {
  require(at + 2 <= bytes.length, "DER: end");
  const tag = bytes[at];
  require((tag & 31) !== 31, "DER: tag");
  let length = bytes[at + 1];
  let start = at + 2;
  if (length >= 128) {
    const width = length - 128;
    require(width >= 1 && width <= 2 && start + width <= bytes.length, "DER: length");
    length = 0;
    for (const end = start + width; start < end; start++) length = length * 256 + bytes[start];
    require(length >= (width === 1 ? 128 : 256), "DER: not the shortest");
  }
  require(length <= bytes.length - start, "DER: length");
  const end = start + length;
  return { tag, content: bytes.slice(start, end), whole: bytes.slice(at, end), end };
}

/** The elements within a constructed one. */
function elements(bytes) {
  const found = [];
  for (let at = 0; at < bytes.length; at = found.at(-1).end) found.push(element(bytes, at));
  return found;
}

function within(one, tag, what) {
  require(one !== undefined && one.tag === tag, `DER: ${what}`);
  return elements(one.content);
}

const OID = { ed25519: "2b6570", basicConstraints: "551d13", subjectAltName: "551d11" };

function checkAlgorithm(one) {
  const parts = within(one, 0x30, "algorithm");
  require(parts.length === 1 && parts[0].tag === 6 && hex(parts[0].content) === OID.ed25519, "X.509: not Ed25519");
}

/** What a certificate says: issuer, subject, key (32 bytes), whether it is a CA, and its relay URIs by kind. */
export function readCertificate(der) {
  require(der.length <= MAX_CERTIFICATE, "X.509: size");
  const outer = element(der, 0);
  require(outer.end === der.length, "X.509: trailing bytes");
  const [signedPart, algorithm, signature, ...rest] = within(outer, 0x30, "certificate");
  require(rest.length === 0 && signature?.tag === 3 && signature.content.length === 65, "X.509: signature");
  require(signature.content[0] === 0, "X.509: signature");
  checkAlgorithm(algorithm);
  const fields = within(signedPart, 0x30, "TBSCertificate");
  require(fields.length === 8 && hex(fields[0].whole) === "a003020102", "X.509: version 3");
  checkAlgorithm(fields[2]);
  const [issuer, subject] = [fields[3].whole, fields[5].whole];
  const [keyAlgorithm, keyBits] = within(fields[6], 0x30, "key");
  checkAlgorithm(keyAlgorithm);
  require(keyBits?.tag === 3 && keyBits.content.length === 33 && keyBits.content[0] === 0, "X.509: key");
  const { ca, uris } = readExtensions(fields[7]);
  return {
    der, issuer, subject, ca, ...readUris(uris, ca),
    key: keyBits.content.slice(1),
    signed: signedPart.whole,
    signature: signature.content.slice(1),
  };
}

function readExtensions(field) {
  const [list] = within(field, 0xa3, "extensions");
  const found = new Map();
  for (const one of within(list, 0x30, "extensions")) {
    const parts = within(one, 0x30, "extension");
    const [name, value] = [parts[0], parts.at(-1)];
    require(name?.tag === 6 && value.tag === 4 && parts.length <= 3, "X.509: extension");
    require(!found.has(hex(name.content)), "X.509: an extension twice");
    found.set(hex(name.content), value.content);
  }
  const constraints = found.get(OID.basicConstraints);
  const names = found.get(OID.subjectAltName);
  require(constraints && names, "X.509: basicConstraints, subjectAltName");
  const [first] = within(element(constraints, 0), 0x30, "basicConstraints");
  const ca = first?.tag === 1 && first.content.length === 1 && first.content[0] === 255;
  const uris = within(element(names, 0), 0x30, "subjectAltName").map((name) => {
    require(name.tag === 0x86, "X.509: subjectAltName");
    return text(name.content);
  });
  return { ca, uris };
}

function readUris(uris, ca) {
  const pattern = /^relay:\/\/([A-Za-z0-9._-]{1,63})\/(?:(node|role|tps)\/([A-Za-z0-9._-]{1,63})|authority)$/;
  const matches = uris.map((uri) => pattern.exec(uri));
  require(matches.every(Boolean) && new Set(matches.map((match) => match[1])).size === 1, "X.509: URIs");
  const values = (kind) => matches.filter((match) => match[2] === kind).map((match) => match[3]);
  const [election, node, role, tps] = [matches[0][1], values("node"), values("role"), values("tps")];
  if (ca) {
    require(matches.length === 1 && matches[0][2] === undefined, "X.509: authority");
    return { election, name: "authority", role: "authority", tps: [] };
  }
  require(node.length === 1 && role.length === 1 && matches.every((match) => match[2]), "X.509: node and role");
  return { election, name: node[0], role: role[0], tps };
}

/** The DER in a PEM text, or `bytes` themselves where they are DER. */
export function fromPem(bytes) {
  require(bytes.length <= 2 * MAX_CERTIFICATE, "PEM: size");
  if (bytes[0] === 0x30) return bytes;
  const match = /-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/.exec(text(bytes));
  require(match, "PEM");
  return base64(match[1].replace(/\s/g, ""));
}

/** The root certificate: a CA that names its authority and signed itself. */
export async function openRoot(der) {
  const root = readCertificate(der);
  if (!root.ca) throw new Fault("role");
  await checkIssued(root, root);
  return { ...root, fingerprint: hex(await sha256(der)) };
}

async function checkIssued(certificate, root) {
  const named = same(certificate.issuer, root.subject) && certificate.election === root.election;
  if (!named) throw new Fault("foreign");
  try {
    await checkSignature(root.key, certificate.signature, certificate.signed);
  } catch {
    throw new Fault("foreign");
  }
}

/** A certificate that the root issued for a role. */
export async function openCertificate(der, root, role) {
  const certificate = readCertificate(der);
  await checkIssued(certificate, root);
  if (certificate.ca || certificate.role !== role) throw new Fault("role");
  return certificate;
}

// -- the statement

/** A statement from its bytes, checked against its id. */
export async function openStatement(raw, id) {
  if (hex(await sha256(raw)) !== id) throw new Fault("hash");
  const envelope = readSign1(raw);
  require(envelope.header.size === 4 && envelope.unprotected.size === 0, "statement: header");
  require(envelope.header.get(3) === "application/vnd.relay.package+cbor", "statement: content type");
  const content = decodeCbor(envelope.payload);
  require(content instanceof Map, "statement: payload");
  const [election, tps, form] = ["election", "tps", "form"].map((key) => content.get(key));
  if (envelope.subject !== `${election}/${tps}/${form}`) throw new Fault("subject");
  return { raw, id, envelope, content, election, tps, form };
}

/** Who signed a statement: an operator of this election's root, for this station. */
export async function checkSigner(statement, root) {
  const signer = await openCertificate(statement.envelope.certificate, root, "operator");
  if (!signer.tps.includes(statement.tps) || statement.election !== signer.election) throw new Fault("station");
  return signer;
}

/** The signature of a statement by its signer. */
export async function checkStatement(statement, signer) {
  if (statement.envelope.issuer !== `relay://${signer.election}/node/${signer.name}`) throw new Fault("role");
  await checkSign1(statement.envelope, signer.key);
}

// -- the log

const leafHash = (entry) => sha256(join(Uint8Array.of(0), entry));
const nodeHash = (left, right) => sha256(join(Uint8Array.of(1), left, right));

/** The root that an inclusion path leads to (RFC 9162 §2.1.3.2). */
export async function rootFromPath(leaf, index, size, path) {
  require(index >= 0 && index < size && path.length <= MAX_PATH, "proof: index");
  let [position, last, root] = [BigInt(index), BigInt(size) - 1n, leaf];
  for (const sibling of path) {
    require(sibling instanceof Uint8Array && sibling.length === 32, "proof: hash");
    if (last === 0n) throw new Fault("path");
    if (position & 1n || position === last) {
      root = await nodeHash(sibling, root);
      while (!(position & 1n) && position) {
        position >>= 1n;
        last >>= 1n;
      }
    } else {
      root = await nodeHash(root, sibling);
    }
    position >>= 1n;
    last >>= 1n;
  }
  if (last) throw new Fault("path");
  return root;
}

/** A receipt (RFC 9942) for a statement at the log index `entry`: proof, then signature. */
export async function checkReceipt(raw, statement, entry, root) {
  const envelope = readSign1(raw);
  const receiver = await openCertificate(envelope.certificate, root, "receiver");
  if (envelope.issuer !== `relay://${receiver.election}/node/${receiver.name}`) throw new Fault("role");
  if (envelope.subject !== `${statement.election}/statement/${statement.id}`) throw new Fault("subject");
  require(envelope.header.size === 6 && envelope.header.get(395) === 1, "receipt: header");
  require(envelope.payload === null && envelope.unprotected.size === 1, "receipt: payload");
  const proofs = envelope.unprotected.get(396)?.get?.(-1);
  require(Array.isArray(proofs) && proofs.length === 1 && proofs[0] instanceof Uint8Array, "receipt: proof");
  const proof = decodeCbor(proofs[0]);
  require(Array.isArray(proof) && proof.length === 3 && Array.isArray(proof[2]), "receipt: proof");
  const [size, index, path] = proof;
  require(Number.isSafeInteger(size) && Number.isSafeInteger(index), "receipt: numbers");
  const leaf = await leafHash(statement.raw);
  const signedLeaf = envelope.header.get(-65_537);
  if (envelope.header.get(-65_538) !== size || !(signedLeaf instanceof Uint8Array) || !same(signedLeaf, leaf)) {
    throw new Fault("path");
  }
  if (index !== entry) throw new Fault("entry");
  await checkSign1(envelope, receiver.key, await rootFromPath(leaf, index, size, path));
  return { size, index, receiver };
}

/** The checkpoint in a signed note, if the receiver's key signed it for the log of its name. */
export async function openCheckpoint(raw, receiver) {
  require(raw.length <= MAX_NOTE, "note: size");
  const note = text(raw);
  const cut = note.lastIndexOf("\n\n");
  require(cut > 0 && note.endsWith("\n"), "note");
  const [head, lines] = [note.slice(0, cut + 1), note.slice(cut + 2, -1).split("\n")];
  const [origin, size, root, end, ...rest] = head.split("\n");
  require(/^(0|[1-9]\d{0,14})$/.test(size) && end === "" && rest.length === 0 && lines.length <= 33, "checkpoint");
  const name = `${receiver.election}/${receiver.name}`;
  if (origin !== name) throw new Fault("signature");
  const id = (await sha256(join(utf8(`${name}\n`), Uint8Array.of(1), receiver.key))).slice(0, 4);
  for (const line of lines) {
    const parts = line.split(" ");
    require(parts.length === 3 && parts[0] === "\u2014", "note: signature line");
    const bytes = base64(parts[2]);
    if (parts[1] !== name || !same(bytes.slice(0, 4), id)) continue;
    await checkSignature(receiver.key, bytes.slice(4), utf8(head));
    const hash = base64(root);
    require(hash.length === 32, "checkpoint: root");
    return { size: Number(size), root: hash };
  }
  throw new Fault("signature");
}

/** The path of a tile of level 0 to 7 below the log's address (tlog-tiles). */
function tilePath(level, index, width) {
  const groups = [];
  do {
    groups.unshift(String(index % 1000).padStart(3, "0"));
    index = Math.floor(index / 1000);
  } while (index);
  const spelled = groups.map((group, at) => (at < groups.length - 1 ? `x${group}` : group)).join("/");
  return `tile/${level}/${spelled}${width < TILE ? `.p/${width}` : ""}`;
}

/** A reader of complete subtrees' hashes of the log of `size` entries; `fetchTile(path)` gives a tile's bytes. */
function treeReader(size, fetchTile) {
  const tiles = new Map();
  return async (height, index) => {
    const level = Math.floor(height / 8);
    const first = index * 2 ** (height % 8);
    const [tile, place, count] = [Math.floor(first / TILE), first % TILE, 2 ** (height % 8)];
    const width = Math.min(TILE, Math.floor(size / TILE ** level) - tile * TILE);
    require(place + count <= width, "tile: width");
    const path = tilePath(level, tile, width);
    if (!tiles.has(path)) tiles.set(path, await fetchTile(path));
    const bytes = tiles.get(path);
    require(bytes.length === width * 32, "tile: size");
    let row = Array.from({ length: count }, (_, at) => bytes.slice((place + at) * 32, (place + at + 1) * 32));
    while (row.length > 1) {
      row = await Promise.all(row.filter((_, at) => at % 2 === 0).map((left, at) => nodeHash(left, row[2 * at + 1])));
    }
    return row[0];
  };
}

/** The hash over leaves `start` to `end` (RFC 9162 §2.1.1), from complete subtrees. */
async function rangeHash(read, start, end) {
  const count = end - start;
  const height = Math.floor(Math.log2(count));
  const split = 2 ** (2 ** height === count ? height - 1 : height);
  if (2 ** height === count) return read(height, start / count);
  return nodeHash(await rangeHash(read, start, start + split), await rangeHash(read, start + split, end));
}

/** The hashes over leaves 0 to `old` and 0 to `end`, from one and the same set of hashes (RFC 9162 §2.1.4). */
async function bothHashes(read, start, end, old) {
  if (old === end) {
    const hash = await rangeHash(read, start, end);
    return [hash, hash];
  }
  const split = start + 2 ** Math.ceil(Math.log2(end - start) - 1);
  if (old <= split) {
    const [before, now] = await bothHashes(read, start, split, old);
    return [before, await nodeHash(now, await rangeHash(read, split, end))];
  }
  const left = await rangeHash(read, start, split);
  const [before, now] = await bothHashes(read, split, end, old);
  return [await nodeHash(left, before), await nodeHash(left, now)];
}

/** Check that the log with the checkpoint `now` begins with the one with the checkpoint `old`, by the tiles of `now`. */
export async function checkGrowth(old, now, fetchTile) {
  if (old.size === 0) return;
  const known = old.size === now.size ? [old.root, old.root]
    : await bothHashes(treeReader(now.size, fetchTile), 0, now.size, old.size);
  if (!same(known[0], old.root) || !same(known[1], now.root)) throw new Fault("rolled-back");
}

/** Check that a statement is entry `entry` of the log with this checkpoint, by the published tiles. */
export async function checkInclusion(statement, entry, checkpoint, fetchTile) {
  if (entry >= checkpoint.size) throw new Fault("behind");
  const read = treeReader(checkpoint.size, fetchTile);
  const path = [];
  let [start, end] = [0, checkpoint.size];
  while (end - start > 1) {
    const split = start + 2 ** Math.ceil(Math.log2(end - start) - 1);
    if (entry < split) {
      path.unshift(await rangeHash(read, split, end));
      end = split;
    } else {
      path.unshift(await rangeHash(read, start, split));
      start = split;
    }
  }
  const leaf = await leafHash(statement.raw);
  if (!same(await read(0, entry), leaf)) throw new Fault("path");
  if (!same(await rootFromPath(leaf, entry, checkpoint.size, path), checkpoint.root)) throw new Fault("path");
}
