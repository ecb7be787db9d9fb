// Keys: what they do stands on the page, in data-key and data-about; nothing is done that a click cannot do.
"use strict";

(() => {
  const OFF = "safemt-keys-off";
  // After a new reply is shown, a key that is still going up and down was meant for the one before.
  const SETTLE_MS = 150;
  // So much of the reply has to be on the screen, above the buttons.
  const SEEN_PX = 120;
  let shown = 0;

  const off = () => localStorage.getItem(OFF) === "1";
  const typed = (where) => where instanceof Element && where.closest("textarea, select, input:not([type=radio]):not([type=checkbox])");
  const named = (key) => [...document.querySelectorAll("[data-key]")].filter((one) => one.dataset.key.split(" ").includes(key) && one.checkVisibility());

  function row(list, keys, about) {
    const term = document.createElement("dt"), told = document.createElement("dd");
    for (const key of keys) {
      const shownKey = document.createElement("kbd");
      shownKey.textContent = key.replace("ArrowLeft", "←").replace("ArrowRight", "→");
      term.append(shownKey, " ");
    }
    told.textContent = about;
    list.append(term, told);
  }

  function help() {
    const dialog = document.getElementById("keys");
    const list = dialog.querySelector("dl");
    list.replaceChildren();
    for (const one of document.querySelectorAll("[data-key][data-about]")) {
      row(list, one.dataset.key.split(" "), one.dataset.about);
    }
    if (document.querySelector(".pick")) row(list, ["[", "]"], "label an earlier reply, a later one");
    if (rows().length) row(list, ["j", "k"], "the next conversation of the list, the one before; Enter opens it");
    row(list, ["?"], "this sheet");
    dialog.querySelector("input").checked = !off();
    dialog.showModal();
  }

  function turn(step) {
    const picks = [...document.querySelectorAll(".pick input")];
    const now = picks.findIndex((one) => one.checked);
    const next = picks[now + step];
    if (!next) return;
    next.checked = true;
    next.closest(".message").scrollIntoView({ block: "nearest" });
  }

  function seen() {
    const reply = document.querySelector(".verdict .message.reply");
    const place = reply.getBoundingClientRect();
    if (place.top < innerHeight - SEEN_PX && place.bottom > 0) return true;
    reply.scrollIntoView({ block: place.height < innerHeight ? "center" : "start" });
    shown = performance.now();
    return false;
  }

  function rows() {
    return [...document.querySelectorAll(".conversations tbody tr")].map((one) => one.querySelector("a[href]")).filter(Boolean);
  }

  function step(by) {
    const all = rows();
    const now = all.indexOf(document.activeElement);
    const next = now < 0 ? all[0] : all[now + by];
    if (next) next.focus();
  }

  const source = (one) => (one ? one.dataset.source ?? one.textContent : "");

  // Of two sides it is the first one's last reply.
  function reply() {
    const all = [...document.querySelectorAll(".message.reply .veiled")];
    return all.filter((one) => !one.closest(".side:not(:first-child)")).pop();
  }

  function conversation() {
    const said = [];
    for (const one of document.querySelectorAll("#columns .message")) {
      const owner = one.closest(".side") && one.closest(".side").querySelector(".owner");
      const who = one.querySelector(".who").textContent.trim() + (owner ? ` (${owner.textContent.trim()})` : "");
      const text = one.querySelector("div.text, p.text");
      said.push(`${who}:\n${source(text)}`);
    }
    return said.join("\n\n");
  }

  async function copy(all) {
    const said = document.querySelector("[data-copied]");
    const text = all ? conversation() : source(reply());
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = text ? "copied" : "there is no reply";
    } catch {
      said.textContent = "the browser does not allow it";
    }
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector("dialog[open]")) return;
    if (typed(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (event.key === "?") return help();
    // A key that is held down labels one reply, not many.
    if (off() || event.repeat || performance.now() - shown < SETTLE_MS) return;
    if (event.key === "[" || event.key === "]") return turn(event.key === "[" ? -1 : 1);
    if (rows().length && (event.key === "j" || event.key === "k")) return step(event.key === "j" ? 1 : -1);
    // Arrows belong to a radio button that has the focus.
    if (event.key.startsWith("Arrow") && event.target.matches("input")) return;
    const [one] = named(event.key);
    if (!one) return;
    event.preventDefault();
    // Nobody labels what is not on the screen.
    if (one.matches(".choice") && !seen()) return;
    if (one.matches("textarea, input[type=search]")) one.focus();
    else if (one.matches("input[type=radio]")) one.checked = true;
    else one.click();
  });

  for (const one of document.querySelectorAll("[data-keys], [data-copy], [data-print]")) one.hidden = false;
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-keys]")) help();
    const asked = event.target.closest("[data-copy]");
    if (asked) copy(asked.dataset.copy === "all");
    const print = event.target.closest("[data-print]");
    // What is cut is fetched whole first.
    if (print && document.querySelector("[data-cut]")) location.href = `${print.dataset.print}#print`;
    else if (print) window.print();
  });
  if (location.hash === "#print") addEventListener("load", () => window.print());
  document.addEventListener("change", (event) => {
    if (event.target.matches("#keys input")) localStorage.setItem(OFF, event.target.checked ? "0" : "1");
  });

  // A new reply: read from its beginning, by a screen reader too. What else is loaded anew, such as the progress of a
  // run, takes neither the focus nor a key.
  let last = document.querySelector("[data-top]");
  document.addEventListener("htmx:afterSwap", () => {
    const top = document.querySelector("[data-top]");
    if (!top || top === last) return;
    last = top;
    shown = performance.now();
    top.focus({ preventScroll: true });
    document.title = `${top.firstChild.textContent.trim()} · safemt viewer`;
  });
  for (const failed of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
    document.addEventListener(failed, () => {
      const problem = document.querySelector("[data-problem]");
      if (problem) problem.textContent = "Not saved: the viewer does not answer, or has refused. Is it still running? Then try again, or reload the page.";
    });
  }
})();
