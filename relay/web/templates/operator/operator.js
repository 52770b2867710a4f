// What the operator's pages do beyond plain forms: nothing is sent twice by a second tap, sums are checked while typing,
// numbers are saved as they are typed, pictures go on uploading after whatever happened, and pages follow the node.
// Everything it does not do, the server does without it.
"use strict";

(() => {
  const body = document.body;
  const token = body.dataset.token;
  const offline = document.getElementById("offline");
  document.documentElement.classList.add("js");

  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));

  // A request that is given up after a while; a lost connection shows, and its end, too.
  const ask = async (url, options = {}, patience = 15000) => {
    const controller = new AbortController();
    const timer = setTimeout(() => controller.abort(), patience);
    try {
      const response = await fetch(url, { credentials: "same-origin", ...options, signal: controller.signal });
      if (offline) offline.hidden = true;
      return response;
    } catch (error) {
      if (offline) offline.hidden = false;
      throw error;
    } finally {
      clearTimeout(timer);
    }
  };

  // -- a form is sent once, until the page is shown again (also from the browser's memory, by "back")
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("[data-once]")) return;
    if (form.dataset.sent || (form.dataset.sure && !confirm(form.dataset.sure))) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "1";
    for (const button of form.querySelectorAll("button")) button.setAttribute("aria-disabled", "true");
    if (form.matches("[data-busy]")) form.querySelector(".send").textContent = body.dataset.sending;
    setTimeout(() => release(form), 15000); // the answer was lost: it may be tapped again, the node knows
  });
  const release = (form) => {
    delete form.dataset.sent;
    for (const button of form.querySelectorAll("button")) button.removeAttribute("aria-disabled");
  };
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload(); // what "back" shows may be long out of date
  });

  // -- pages that follow the node
  const live = document.querySelector("[data-live]");
  const follow = async () => {
    for (;;) {
      await pause(4000);
      if (document.hidden || live.contains(document.activeElement)) continue;
      try {
        const response = await ask(location.href, { headers: { Accept: "text/html" } });
        if (response.redirected || !response.ok) continue;
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        const fresh = page.querySelector("[data-live]");
        if (fresh && fresh.innerHTML !== live.innerHTML) live.innerHTML = fresh.innerHTML;
      } catch (error) {
        continue; // shown already; the next round tries again
      }
    }
  };
  if (live) follow();

  // -- the arithmetic of a tally: relay/records/tally.py in a few lines, compared with it by a test
  const COUNTS = ["registered_voters", "voters", "ballots_received", "ballots_used", "ballots_spoiled", "ballots_unused",
    "valid", "invalid"];
  const check = (counts, votes, registered) => {
    const flags = [];
    const differ = (flag, left, right) => {
      if (left === undefined || right.some((one) => one === undefined)) return;
      if (left !== right.reduce((sum, one) => sum + one, 0)) flags.push(flag);
    };
    const c = counts;
    if (COUNTS.some((name) => c[name] === undefined) || !votes.length) flags.push("incomplete");
    if (votes.length) differ("valid-is-not-sum-of-votes", c.valid, votes);
    differ("used-is-not-valid-plus-invalid", c.ballots_used, [c.valid, c.invalid]);
    differ("received-is-not-used-spoiled-unused", c.ballots_received, [c.ballots_used, c.ballots_spoiled, c.ballots_unused]);
    differ("voters-is-not-ballots-used", c.voters, [c.ballots_used]);
    const dpt = c.registered_voters;
    if (dpt !== undefined) {
      differ("received-is-not-registered-plus-reserve", c.ballots_received, [dpt, Math.ceil((dpt * 25) / 1000)]);
      if (registered !== null) differ("registered-differs-from-register", dpt, [registered]);
      if ((c.voters || 0) > (c.ballots_received || dpt)) flags.push("more-voters-than-ballots");
    }
    return flags.sort();
  };
  globalThis.relay = { check };

  // -- numbers
  const numbers = document.getElementById("tally");
  if (numbers) {
    const whole = (text) => (/^[0-9]{1,8}$/.test(text.trim()) ? Number(text.trim()) : undefined);
    const registered = numbers.dataset.registered === "" ? null : Number(numbers.dataset.registered);
    const kept = document.getElementById("kept");
    const paper = document.getElementById("as-on-paper");
    const sum = document.getElementById("sum");

    const show = () => {
      const counts = {};
      for (const name of COUNTS) counts[name] = whole(numbers.elements[name].value);
      const votes = [...numbers.querySelectorAll("input[name^=pair-]")].map((one) => whole(one.value));
      const flags = check(counts, votes.filter((one) => one !== undefined), registered);
      for (const box of numbers.querySelectorAll("[data-rule]")) {
        const hide = !flags.includes(box.dataset.rule);
        if (box.hidden !== hide) box.hidden = hide;
      }
      paper.hidden = !flags.some((flag) => flag !== "incomplete");
      const both = counts.valid === undefined || counts.invalid === undefined;
      sum.textContent = both ? "–" : counts.valid + counts.invalid;
    };

    const changed = new Map();
    let saving = false;
    const save = async () => {
      if (saving) return;
      saving = true;
      while (changed.size) {
        const now = new Map(changed);
        kept.textContent = numbers.dataset.saving;
        try {
          const headers = { Accept: "application/json", "Relay-Token": token };
          const response = await ask(numbers.action, { method: "POST", headers, body: new URLSearchParams([...now]) });
          if (response.redirected) location.href = response.url;
          if (!response.ok) break;
          for (const [name, text] of now) if (changed.get(name) === text) changed.delete(name);
          kept.textContent = numbers.dataset.saved;
        } catch (error) {
          await pause(2000);
        }
      }
      saving = false;
    };

    let soon;
    numbers.addEventListener("input", (event) => {
      if (!event.target.name) return;
      show();
      changed.set(event.target.name, event.target.value);
      clearTimeout(soon);
      soon = setTimeout(save, 400);
    });
    numbers.elements.pairs.addEventListener("change", () => numbers.querySelector("[name=apply]").click());
    numbers.addEventListener("keydown", (event) => {
      // "Enter" on a phone's keyboard goes on to the next number.
      if (event.key !== "Enter" || event.target.tagName !== "INPUT") return;
      const inputs = [...numbers.querySelectorAll("input:not([type=hidden])")];
      const next = inputs[inputs.indexOf(event.target) + 1];
      if (next) {
        event.preventDefault();
        next.focus();
        next.select();
      }
    });
    addEventListener("pagehide", () => {
      if (changed.size) {
        const headers = { Accept: "application/json", "Relay-Token": token };
        fetch(numbers.action, { method: "POST", keepalive: true, headers, body: new URLSearchParams([...changed]) }).catch(() => {});
      }
    });
    const errors = document.getElementById("errors");
    if (errors) errors.focus();
    show();
  }

  // -- pictures
  const uploads = document.getElementById("uploads");
  if (uploads) {
    const BLOCK = 256 * 1024;
    const list = uploads.querySelector("ul");
    const none = uploads.querySelector(".none");
    const said = document.getElementById("said");
    const say = uploads.dataset;

    // Pictures that are not on the box yet are kept by the phone, so that a reload or a dead battery loses none.
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
    const keep = (picture) => store("readwrite", (s) => s.put(picture)).catch(() => {}); // private windows keep nothing
    const forget = (id) => store("readwrite", (s) => s.delete(id)).catch(() => {});
    const kept = () => store("readonly", (s) => s.getAll()).catch(() => []);

    const card = (picture) => {
      let item = list.querySelector(`[data-picture="${picture.id}"]`);
      if (!item) {
        item = document.createElement("li");
        item.dataset.picture = picture.id;
        list.append(item);
      }
      item.removeAttribute("data-partial");
      const image = new Image();
      image.alt = "";
      image.src = URL.createObjectURL(picture.blob);
      const bar = document.createElement("progress");
      bar.max = 100;
      const line = document.createElement("p");
      bar.setAttribute("aria-label", picture.name);
      item.replaceChildren(image, line, bar);
      none.hidden = true;
      return (text, percent) => {
        line.textContent = fill(text, { percent });
        if (percent === null) item.replaceChildren(line);
        else bar.value = percent;
      };
    };

    const digestOf = async (blob) => {
      if (!globalThis.crypto || !crypto.subtle) return null; // an insecure origin; TCP's sums have to do
      const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
      return btoa(String.fromCharCode(...digest));
    };

    // One picture, from wherever the box says that it ends; tried for ever, since boxes and phones sleep.
    const send = async (picture) => {
      const url = `${say.url}/${picture.id}`;
      const size = picture.blob.size;
      const show = card(picture);
      const percent = () => Math.floor((offset * 100) / size);
      let offset = 0;
      let known = false;
      let wait = 500;
      for (;;) {
        try {
          if (!known) {
            const head = await ask(url, { method: "HEAD" });
            if (head.status === 401 || head.redirected) return location.reload();
            offset = head.ok ? Number(head.headers.get("Upload-Offset")) : 0;
            if (head.ok && head.headers.get("Upload-Complete") === "?1") break;
            known = true;
          }
          show(say.uploading, percent());
          const block = picture.blob.slice(offset, offset + BLOCK);
          const last = offset + block.size >= size;
          const headers = {
            "Relay-Token": token, "Content-Type": "application/partial-upload", "Upload-Offset": String(offset),
            "Upload-Length": String(size), "Upload-Complete": last ? "?1" : "?0",
          };
          const digest = last ? await digestOf(picture.blob) : null;
          if (digest) headers["Repr-Digest"] = `sha-256=:${digest}:`;
          const response = await ask(url, { method: "PATCH", headers, body: await block.arrayBuffer() });
          if (response.status === 409 && response.headers.has("Upload-Offset")) {
            offset = Number(response.headers.get("Upload-Offset"));
            if (offset >= size) known = false;
          } else if (response.ok) {
            offset = Number(response.headers.get("Upload-Offset"));
            if (response.headers.get("Upload-Complete") === "?1") break;
          } else if (response.status === 507) {
            throw new Error(say.full);
          } else if (response.status >= 400 && response.status < 500 && response.status !== 408) {
            show(say.failed, null);
            said.textContent = say.failed;
            await forget(picture.id);
            return null;
          } else {
            throw new Error(String(response.status));
          }
          wait = 500;
        } catch (error) {
          known = false;
          show(error.message === say.full ? say.full : say.waits, percent());
          await pause(wait);
          wait = Math.min(wait * 2, 5000);
        }
      }
      await forget(picture.id);
      return picture.id;
    };

    const queue = [];
    let working = false;
    const work = async () => {
      if (working) return;
      working = true;
      let done = 0;
      while (queue.length) if (await send(queue.shift())) done += 1;
      working = false;
      if (done) {
        await refresh();
        said.textContent = say.done;
      }
    };

    // The list as the box has it: numbers, buttons, and pictures that another phone took.
    const refresh = async () => {
      try {
        const response = await ask(location.href, { headers: { Accept: "text/html" } });
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        const fresh = page.querySelector("#uploads ul");
        if (fresh && !working) list.replaceChildren(...fresh.children);
      } catch (error) {
        location.reload();
      }
    };

    const idOf = () => [...crypto.getRandomValues(new Uint8Array(8))].map((b) => b.toString(16).padStart(2, "0")).join("");
    const take = async (files) => {
      for (const file of files) {
        const picture = { id: idOf(), draft: say.draft, name: file.name, blob: new Blob([await file.arrayBuffer()]) };
        await keep(picture);
        card(picture)(say.uploading, 0);
        queue.push(picture);
      }
      work();
    };
    for (const input of document.querySelectorAll("#shutter input[type=file]")) {
      input.addEventListener("change", () => {
        const files = [...input.files];
        input.value = "";
        take(files);
      });
    }
    document.getElementById("shutter").addEventListener("submit", (event) => event.preventDefault());
    kept().then((pictures) => {
      queue.push(...pictures.filter((one) => one.draft === say.draft && !queue.some((two) => two.id === one.id)));
      work();
    });
  }
})();
