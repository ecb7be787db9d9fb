// Blurred texts and images, examples of the SQL page, and its files.
"use strict";

// What is shown, and what was hidden though everything is to be shown, is marked on the box of a text or on a button.
function mark(part, on) {
  part.classList.toggle("open", on);
  part.classList.toggle("closed", !on);
}

function set(button, on) {
  const box = button.closest("[data-veil-box]");
  mark(box || button, on);
  // What is blurred is not read aloud either.
  if (!box) {
    button.setAttribute("aria-pressed", on ? "true" : "false");
    if (on) button.removeAttribute("aria-label");
    else button.setAttribute("aria-label", "Show the beginning of the reply");
  } else if (on) box.querySelector(".veiled").removeAttribute("aria-hidden");
  else box.querySelector(".veiled").setAttribute("aria-hidden", "true");
}

function always() {
  return document.documentElement.classList.contains("shown");
}

function isOpen(part) {
  return part.classList.contains("open") || (always() && !part.classList.contains("closed"));
}

// In exported pages the browser remembers the choice; the viewer's server does it by a cookie.
const ALWAYS = "safemt-show";
function showAlways(on) {
  document.documentElement.classList.toggle("shown", on);
  document.querySelector("[data-always]").setAttribute("aria-pressed", on ? "true" : "false");
  document.querySelectorAll("#main [data-veil]").forEach((button) => set(button, on));
}
const remembering = document.querySelector("[data-always]");
if (remembering && !always()) {
  remembering.hidden = false;
  let on = false;
  // Some browsers keep nothing for pages that are files.
  try { on = localStorage.getItem(ALWAYS) === "1"; } catch { /* not remembered */ }
  if (on) showAlways(true);
  remembering.addEventListener("click", () => {
    const next = !always();
    showAlways(next);
    try { localStorage.setItem(ALWAYS, next ? "1" : "0"); } catch { /* not remembered */ }
  });
}

document.addEventListener("click", (event) => {
  const all = event.target.closest("[data-veil-all]");
  if (all) {
    const on = !isOpen(all);
    mark(all, on);
    document.querySelectorAll("#main [data-veil]").forEach((button) => set(button, on));
    return;
  }
  const hit = event.target.closest("[data-hit]");
  if (hit) {
    const hits = [...document.querySelectorAll("#columns mark")];
    const now = hits.findIndex((one) => one.classList.contains("here"));
    if (hits[now]) hits[now].classList.remove("here");
    const next = hits[(now + 1) % hits.length];
    const said = document.querySelector("[data-copied]");
    said.textContent = next ? `hit ${hits.indexOf(next) + 1} of ${hits.length}` : "no hit is shown";
    if (next) {
      for (let fold = next.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
      next.classList.add("here");
      next.scrollIntoView({ block: "center" });
    }
    return;
  }
  const example = event.target.closest("[data-example]");
  if (example) {
    event.preventDefault();
    const box = document.getElementById("sql");
    box.value = example.dataset.example;
    box.focus();
    document.getElementById("question").requestSubmit();
    return;
  }
  const button = event.target.closest("[data-veil]");
  if (button) {
    set(button, !isOpen(button.closest("[data-veil-box]") || button));
    return;
  }
  // A click on what is blurred shows it; hiding it again takes the button, so that text can be selected.
  const veiled = event.target.closest(".veiled");
  const box = veiled && veiled.closest("[data-veil-box]");
  if (box) set(box.querySelector("[data-veil]"), true);
});

// Files are fetched by the browser itself.
document.addEventListener("htmx:configRequest", (event) => {
  const by = event.detail.triggeringEvent && event.detail.triggeringEvent.submitter;
  if (by && by.hasAttribute("data-plain")) event.preventDefault();
});
document.addEventListener("submit", (event) => {
  if (event.submitter && event.submitter.hasAttribute("data-plain")) event.stopPropagation();
}, true);
for (const one of document.querySelectorAll("[data-hit]")) one.hidden = false;

// The address of the view, for other people or another day. Without scripts the link has it.
function offerAddress() {
  if (navigator.clipboard) document.querySelectorAll("[data-copy-address]").forEach((one) => { one.hidden = false; });
}
document.addEventListener("click", async (event) => {
  if (!event.target.closest("[data-copy-address]")) return;
  const said = document.querySelector("[data-address-copied]");
  try {
    await navigator.clipboard.writeText(document.querySelector("[data-address]").href);
    said.textContent = "copied";
  } catch {
    said.textContent = "the browser does not allow it";
  }
});
document.addEventListener("htmx:afterSwap", offerAddress);
offerAddress();
