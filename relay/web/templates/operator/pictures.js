// Pictures on their way to the box, whichever page the phone shows. Each is told to the box before the first byte of it
// goes, so that no draft is signed without it; the phone keeps it until the box has all of it. Only what can never be a
// picture, or what somebody removed, is given up.
"use strict";

(() => {
  const { call, fill, problemOf, refresh, wait } = globalThis.relay;
  if (!document.body.dataset.token) return;
  const BLOCK = 256 * 1024;
  const strip = document.getElementById("copying");
  const say = strip.dataset;
  const held = document.getElementById("held");
  const uploads = document.getElementById("uploads");
  const shown = uploads ? uploads.dataset.draft : "";
  const said = document.getElementById("said");

  // -- what this phone holds: pictures by id, in the order in which they were taken
  const pictures = new Map();
  const going = () => [...pictures.values()].filter((one) => !one.stranded);
  const of = (draft) => going().filter((one) => one.draft === draft);

  const store = (mode, work) => new Promise((done, failed) => {
    const opening = indexedDB.open("relay", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("pictures", { keyPath: "id" });
    opening.onerror = () => failed(opening.error);
    opening.onsuccess = () => {
      const transaction = opening.result.transaction("pictures", mode);
      const request = work(transaction.objectStore("pictures"));
      transaction.oncomplete = () => { opening.result.close(); done(request.result); };
      transaction.onabort = transaction.onerror = () => failed(transaction.error);
    };
  });
  const keep = async (picture) => {
    try {
      picture.blob = new Blob([await picture.blob.arrayBuffer()]);
    } catch (error) {
      return giveUp(picture, say.failed);
    }
    const { id, draft, name, taken, blob } = picture;
    await store("readwrite", (s) => s.put({ id, draft, name, taken, blob })).then(() => { picture.kept = true; }, () => {});
  };
  const forget = async (gone) => {
    for (const one of gone) pictures.delete(one.id);
    update();
    await store("readwrite", (s) => gone.map((one) => s.delete(one.id))[0]).catch(() => {});
  };
  addEventListener("beforeunload", (event) => {
    if (going().some((one) => !one.kept)) event.preventDefault(); // private windows keep nothing
  });

  // -- what is shown of it
  const update = () => {
    const count = going().length;
    strip.hidden = !count || count === of(shown).length; // those have cards
    strip.textContent = fill(count === 1 ? say.one : say.more, { count });
    if (said && count && !told) said.textContent = ""; // of the picture before
    if (held) {
      const here = of(held.closest("[data-whole]").dataset.whole).length;
      held.hidden = !here;
      document.getElementById("live-hindrance").hidden = here > 0; // it says the same, or comes after it
      held.textContent = fill(here === 1 ? held.dataset.one : held.dataset.more, { count: here });
    }
    if (uploads) {
      const some = uploads.querySelector("li") !== null;
      uploads.querySelector(".none").hidden = some;
      document.querySelector("label[for=camera]").classList.toggle("go", !some);
      document.getElementById("onward").classList.toggle("next", some);
    }
    strand();
  };

  const strand = () => {
    const left = [...pictures.values()].filter((one) => one.stranded);
    let box = document.getElementById("stranded");
    if (!left.length) return box && box.remove();
    if (!box) {
      document.getElementById("main").prepend(document.getElementById("stranded-box").content.cloneNode(true));
      box = document.getElementById("stranded");
    }
    box.querySelector("ul").replaceChildren(...left.map((one) => {
      const item = document.createElement("li");
      item.append(imageOf(one));
      return item;
    }));
    const button = box.querySelector("button");
    button.onclick = () => confirm(button.dataset.sure) && forget(left);
  };

  const imageOf = (picture) => {
    const image = new Image();
    image.alt = picture.name;
    image.src = picture.url = picture.url || URL.createObjectURL(picture.blob);
    return image;
  };

  // How a picture fares: on its card, or where it has none, in the strip.
  const show = (picture, text) => {
    const percent = ((picture.offset || 0) * 100) / (picture.blob.size || 1);
    const line = fill(text, { percent: Math.floor(percent) });
    if (picture.draft !== shown) {
      update();
      if (text !== say.uploading) strip.append(` ${line}`);
      return;
    }
    let item = cardOf(picture);
    if (!item) {
      item = document.createElement("li");
      item.dataset.picture = picture.id;
      uploads.querySelector("ul").append(item);
      update();
    }
    if (!item.querySelector("progress")) {
      const bar = document.createElement("progress");
      bar.max = 100;
      bar.setAttribute("aria-label", picture.name);
      item.querySelectorAll(":scope > a, :scope > p").forEach((one) => one.remove());
      item.prepend(imageOf(picture), document.createElement("p"), bar);
      if (!item.querySelector("form")) item.append(remover(picture));
    }
    item.querySelector("p").textContent = line;
    item.querySelector("progress").value = percent;
  };

  const remover = (picture) => {
    const caption = document.createElement("div");
    const button = document.createElement("button");
    caption.className = "caption";
    button.className = "small";
    button.type = "button";
    button.textContent = uploads.dataset.remove;
    button.setAttribute("aria-label", `${uploads.dataset.remove} ${picture.name}`);
    button.onclick = async () => {
      if (!confirm(uploads.dataset.sure)) return;
      await forget([picture]);
      await call(`/operator/drafts/${picture.draft}/pictures/${picture.id}/remove`, { method: "POST" }).catch(() => {});
      cardOf(picture).remove();
      update();
    };
    caption.append(button);
    return caption;
  };
  const cardOf = (picture) => document.querySelector(`#uploads [data-picture="${picture.id}"]`);

  // A picture that is given up, and why.
  const giveUp = async (picture, why) => {
    await forget([picture]);
    const card = cardOf(picture);
    if (card) card.remove();
    update();
    tell(why, true);
  };
  const tell = (text, bad) => {
    const line = said || strip;
    line.hidden = false;
    line.textContent = text;
    line.classList.toggle("box", bad);
    line.classList.toggle("problem", bad);
    told = bad;
  };
  let told = false;

  // -- sending
  const announce = async (draft, taken) => {
    if (!taken.length) return;
    const list = taken.map((one) => `${one.id}:${one.blob.size}`).join(" ");
    const options = { method: "POST", body: new URLSearchParams({ pictures: list }), keepalive: true };
    const response = await call(`/operator/drafts/${draft}/announce`, options);
    const { refused } = response.status === 200 ? await response.json() : { refused: [] };
    for (const one of taken) one.announced = response.ok && !refused.includes(one.id);
  };

  const digestOf = async (blob) => {
    if (!globalThis.crypto || !crypto.subtle) return null; // an insecure origin; TCP's sums have to do
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
    return btoa(String.fromCharCode(...digest));
  };

  const part = async (picture, url, offset) => {
    const block = picture.blob.slice(offset, offset + BLOCK);
    const last = offset + block.size >= picture.blob.size;
    const headers = {
      "Content-Type": "application/partial-upload", "Upload-Offset": String(offset),
      "Upload-Length": String(picture.blob.size), "Upload-Complete": last ? "?1" : "?0",
    };
    const digest = last ? await digestOf(picture.blob) : null;
    if (digest) headers["Repr-Digest"] = `sha-256=:${digest}:`;
    return call(url, { method: "PATCH", headers, body: await block.arrayBuffer() });
  };

  // One picture, from wherever the box says that it ends. True when nothing is left to do for it.
  const send = async (picture) => {
    const url = `/operator/drafts/${picture.draft}/pictures/${picture.id}`;
    let response = await call(url, { method: "HEAD" });
    picture.offset = response.ok ? Number(response.headers.get("Upload-Offset")) : 0;
    while (response.headers.get("Upload-Complete") !== "?1") {
      if (!pictures.has(picture.id)) return true; // removed on this very page
      show(picture, say.uploading);
      response = await part(picture, url, picture.offset);
      // 204 and a conflict say where to go on; anything else, and a conflict about nothing, is a refusal.
      const next = response.headers.get("Upload-Offset");
      if (next === null || (!response.ok && Number(next) === picture.offset)) return refused(picture, response);
      picture.offset = Number(next);
    }
    saved = true;
    await forget([picture]);
    return true;
  };

  const refused = async (picture, response) => {
    const { kind, text } = await problemOf(response);
    if (kind === "unusable-picture") await giveUp(picture, `${say.failed} (${text})`);
    else if (kind === "picture-removed") await giveUp(picture, say.removed);
    else if (kind === "not-held" || kind === "already-sent") {
      picture.stranded = true; // its draft is gone
      update();
    } else {
      show(picture, `${text} ${say.kept}`);
      return false;
    }
    return true;
  };

  let working = false;
  let saved = false;
  const work = async () => {
    if (working) return;
    working = true;
    saved = false;
    for (let patience = 500; going().length; ) {
      let moved = false;
      try {
        for (const draft of new Set(going().map((one) => one.draft))) {
          await announce(draft, of(draft).filter((one) => !one.announced));
        }
        for (const one of going()) moved = (await send(one)) || moved;
      } catch (error) {
        for (const one of going()) show(one, say.waits);
      }
      if (!moved && going().length) {
        await wait(patience);
        patience = Math.min(patience * 2, 5000);
      } else patience = 500;
    }
    working = false;
    await settle();
  };
  // The page as the box has it: numbers, buttons, and pictures that another phone took.
  const settle = async () => {
    const page = await refresh();
    const list = page && page.querySelector("#uploads ul");
    if (list && uploads && !of(shown).length) uploads.querySelector("ul").replaceChildren(...list.children);
    update();
    if (said && saved && !told) tell(say.done, false);
  };

  // -- taking
  const idOf = () => [...crypto.getRandomValues(new Uint8Array(8))].map((b) => b.toString(16).padStart(2, "0")).join("");
  const take = (files) => {
    told = false;
    if (files.some((file) => !file.size)) tell(say.failed, true); // the phone's storage is full, or its camera was killed
    const taken = files.filter((file) => file.size).map((file, place) => (
      { id: idOf(), draft: shown, name: file.name, taken: Date.now() + place / 100, blob: file }
    ));
    for (const one of taken) {
      pictures.set(one.id, one);
      show(one, say.uploading);
    }
    update();
    announce(shown, taken).catch(() => {});
    (async () => { for (const one of taken) await keep(one); })().then(work);
  };
  // -- what is removed on the box is removed here, too; and nothing is signed while this phone holds pictures of it
  document.addEventListener("submit", (event) => {
    const gone = event.target.dataset.forget;
    if (!gone || event.defaultPrevented) return;
    const mine = [...pictures.values()].filter((one) => one.id === gone || one.draft === gone);
    if (!mine.length) return;
    event.preventDefault();
    forget(mine).then(() => event.target.submit());
  });
  document.addEventListener("submit", (event) => {
    const draft = event.target.dataset.whole;
    if (!draft || (loaded && !of(draft).length)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (loaded) held.focus();
    else ready.then(() => event.target.querySelector(".send").click());
  }, true);

  let loaded = false;
  const ready = store("readonly", (s) => s.getAll()).catch(() => []).then((all) => {
    for (const one of all.sort((a, b) => (a.taken || 0) - (b.taken || 0))) {
      if (!pictures.has(one.id)) pictures.set(one.id, { ...one, kept: true });
    }
    loaded = true;
    update();
    for (const one of of(shown)) show(one, say.uploading);
    if (going().length) work();
  });

  for (const input of document.querySelectorAll("#shutter input[type=file]")) {
    const chosen = () => {
      const files = [...input.files];
      input.value = "";
      if (files.length) take(files);
    };
    input.addEventListener("change", chosen);
    chosen(); // before this script was here
  }
  if (uploads) document.getElementById("shutter").addEventListener("submit", (event) => event.preventDefault());
})();
