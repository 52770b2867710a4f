// What the operator's pages do beyond plain forms: nothing is sent twice by a second tap, sums are checked while typing,
// numbers are saved as they are typed, and pages follow the node; pictures.js sends pictures.
// Everything it does not do, the server does without it.
"use strict";

(() => {
  const body = document.body;
  const offline = document.getElementById("offline");
  const unpaired = document.getElementById("unpaired");
  document.documentElement.classList.add("js");

  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);

  // -- what waits goes on at once when there is a reason: the page is looked at again, or another page of this phone was
  // let in, which tells the others (by the storage's event, which keeps no page out of the browser's memory for "back")
  let reasons = 0;
  const waiting = new Set();
  const goOn = () => {
    reasons += 1;
    for (const one of waiting) one();
  };
  const wait = (ms) => new Promise((done) => {
    const end = () => {
      waiting.delete(end);
      clearTimeout(timer);
      done();
    };
    const timer = setTimeout(end, ms);
    waiting.add(end);
  });
  addEventListener("storage", (event) => { if (event.key === "relay-let-in") goOn(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) goOn(); });
  try {
    if (body.dataset.token) localStorage.setItem("relay-let-in", String(Math.random()));
  } catch (error) { /* a browser that stores nothing: they go on by themselves after a while */ }

  // A request that is given up after a while; a lost connection shows, and its end, too.
  const ask = async (url, options = {}, patience = 15000) => {
    const controller = new AbortController();
    const timer = setTimeout(() => controller.abort(), patience);
    try {
      const response = await fetch(url, { credentials: "same-origin", ...options, signal: controller.signal });
      offline.hidden = true;
      return response;
    } catch (error) {
      offline.hidden = false;
      throw error;
    } finally {
      clearTimeout(timer);
    }
  };

  // This very page as the box has it now; null when it is another one by now.
  const fresh = async () => {
    const response = await ask(location.href, { headers: { Accept: "text/html" } });
    if (response.redirected || !response.ok) return null;
    return new DOMParser().parseFromString(await response.text(), "text/html");
  };

  // A request that changes something. A phone that was paired anew meanwhile has another token: it is fetched.
  const call = async (url, options) => {
    for (let again = false; ; again = true) {
      const headers = { Accept: "application/json", ...options.headers, "Relay-Token": body.dataset.token };
      const response = await ask(url, { ...options, headers });
      unpaired.hidden = response.status !== 401;
      if (response.status !== 403 || again) return response;
      const page = await fresh();
      if (!page) return response;
      body.dataset.token = page.body.dataset.token;
      for (const one of document.querySelectorAll("input[name=token]")) one.value = body.dataset.token;
    }
  };

  // What the box said was wrong, in its words; `kind` is for programs.
  const problemOf = async (response) => {
    const told = await response.json().catch(() => ({}));
    const text = told.title ? `${told.title}. ${told.detail}` : String(response.status);
    return { kind: String(told.type).split("/").pop(), text };
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
    const send = form.matches("[data-busy]") ? form.querySelector(".send") : null;
    const text = send && send.textContent;
    for (const button of form.querySelectorAll("button")) button.setAttribute("aria-disabled", "true");
    if (send) send.textContent = body.dataset.sending;
    setTimeout(() => { // the answer was lost: it may be tapped again, the node knows
      delete form.dataset.sent;
      for (const button of form.querySelectorAll("button")) button.removeAttribute("aria-disabled");
      if (send) send.textContent = text;
    }, 15000);
  });
  addEventListener("pageshow", (event) => {
    // What "back" shows may be long out of date. Without the box it stays: better than the browser's error page.
    if (event.persisted) ask(location.href, { method: "HEAD" }).then(() => location.reload(), () => {});
  });

  // -- pages that follow the node
  const refresh = async () => {
    const page = await fresh().catch(() => null); // a lost connection shows already; the next round tries again
    for (const live of page ? document.querySelectorAll("[data-live]") : []) {
      const now = page.getElementById(live.id);
      const same = !now || now.innerHTML === live.innerHTML || live.contains(document.activeElement);
      if (!same) live.innerHTML = now.innerHTML;
    }
    return page;
  };
  const follow = async () => {
    for (;;) {
      await wait(4000);
      if (!document.hidden) await refresh();
    }
  };
  if (document.querySelector("[data-live]")) follow();

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
  globalThis.relay = { call, check, fill, problemOf, refresh, wait };

  // -- numbers
  const numbers = document.getElementById("tally");
  if (numbers) {
    const whole = (text) => (/^[0-9]{1,8}$/.test(text.trim()) ? Number(text.trim()) : undefined);
    const registered = numbers.dataset.registered === "" ? null : Number(numbers.dataset.registered);
    const kept = document.getElementById("kept");
    const paper = document.getElementById("as-on-paper");
    const sum = document.getElementById("sum");

    // What is no number is said at once, as the box says it when one goes on.
    const mark = (input, wrong) => {
      const row = input.closest(".row");
      let line = row.querySelector(".error");
      row.classList.toggle("wrong", wrong);
      if (!wrong) {
        input.removeAttribute("aria-invalid");
        input.removeAttribute("aria-describedby");
        if (line) line.remove();
        return;
      }
      if (!line) {
        line = document.createElement("p");
        line.className = "error";
        line.id = `${input.id}-error`;
        row.append(line);
        input.setAttribute("aria-invalid", "true");
        input.setAttribute("aria-describedby", line.id);
      }
      line.textContent = `“${input.value}” ${numbers.dataset.wrong}`;
    };

    const show = () => {
      const counts = {};
      for (const name of COUNTS) counts[name] = whole(numbers.elements[name].value);
      const votes = [...numbers.querySelectorAll("input[name^=pair-]")].map((one) => whole(one.value));
      for (const input of numbers.querySelectorAll("input[inputmode]")) {
        mark(input, input.value.trim() !== "" && whole(input.value) === undefined);
      }
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
    const again = document.getElementById("again");
    let saving = false;
    const keep = (options) => call(numbers.action, { method: "POST", body: new URLSearchParams([...changed]), ...options });
    const save = async () => {
      if (saving) return;
      saving = true;
      while (changed.size) {
        const now = new Map(changed);
        const before = reasons;
        kept.textContent = numbers.dataset.saving;
        again.hidden = true;
        try {
          const response = await keep();
          if (!response.ok) {
            kept.textContent = (await problemOf(response)).text;
            again.hidden = false;
            // What the box said of this very form does not change by asking again.
            if ([400, 404, 409].includes(response.status)) {
              if (response.status !== 400) again.onclick = () => location.reload();
              break;
            }
            if (reasons === before) await wait(5000);
            continue;
          }
          for (const [name, text] of now) {
            numbers.elements[`was-${name}`].value = text; // so that the form brings it no second time
            if (changed.get(name) === text) changed.delete(name);
          }
          kept.textContent = numbers.querySelector(".row.wrong") ? "" : numbers.dataset.saved;
        } catch (error) {
          if (reasons === before) await wait(2000);
        }
      }
      saving = false;
    };
    const saveNow = () => { goOn(); save(); };
    again.onclick = saveNow;
    let soon;

    numbers.addEventListener("input", (event) => {
      if (!event.target.name) return;
      show();
      changed.set(event.target.name, event.target.value);
      clearTimeout(soon);
      soon = setTimeout(saveNow, 400);
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
      if (changed.size) keep({ keepalive: true }).catch(() => {});
    });
    const errors = document.getElementById("errors");
    if (errors) errors.focus();
    show();
  }
})();
