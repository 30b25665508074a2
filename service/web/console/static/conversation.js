// A click on a turn says since when; undoing lies under the hand for a moment; the page stays new.
"use strict";

function arm() {
  const undo = document.querySelector("button[data-undo]");
  if (undo) {
    setTimeout(() => {
      delete undo.dataset.key;
      undo.textContent = gettext("Take it back");
    }, Number(undo.dataset.undo) * 1000);
  }
}
arm();

document.getElementById("turns")?.addEventListener("click", (event) => {
  const radio = event.target.closest(".turn")?.querySelector("input[type=radio]");
  const elsewhere = event.target.closest("a, button, input, label") || String(getSelection());
  if (radio && !elsewhere && radio.checkVisibility()) radio.checked = true;
});

// A form is sent once, however often its button or key is pressed.
document.addEventListener("submit", (event) => {
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "yes";
});
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});

// What others say and do appears without reload; what is being typed or chosen here stays.
// Where nothing has happened for a minute, it is looked for less often; a hand on the page looks at once.
const LOOK_MS = 5000, CALM_MS = 15000, CALM_AFTER_MS = 60000;
const here = document.querySelector(".conversation[data-state]");
const live = document.getElementById("live");

function busy(part) {
  if (part.contains(document.activeElement) && document.activeElement !== part) return true;
  return [...part.querySelectorAll("input, textarea, select")].some((field) =>
    field.type === "radio" || field.type === "checkbox" ? false :
      field.tagName === "SELECT" ? field.selectedIndex > 0 : field.value !== field.defaultValue);
}

function renew(page) {
  const chosen = document.querySelector("input[name=since]:checked")?.value;
  let held = false;
  for (const part of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(part.id);
    if (!fresh || fresh.innerHTML === part.innerHTML) continue;
    if (part.dataset.as && part.dataset.as === fresh.dataset.as) continue;
    if (part.id !== "turns" && busy(part)) {
      held = true;
      continue;
    }
    part.replaceChildren(...fresh.childNodes);
    if (fresh.dataset.as) part.dataset.as = fresh.dataset.as;
  }
  for (const radio of document.querySelectorAll("input[name=since]")) {
    if (radio.value === chosen) radio.checked = true;
  }
  if (!held) here.dataset.state = page.querySelector(".conversation").dataset.state;
  baton.tick();
  arm();
  document.dispatchEvent(new CustomEvent("baton:renewed"));
}

async function look() {
  if (document.hidden) return;
  const asked = await fetch(`${here.dataset.url}/state`, { redirect: "error" });
  if (!asked.ok || await asked.text() === here.dataset.state) return;
  const page = await fetch(here.dataset.page, { redirect: "error" });
  if (!page.ok) return;
  renew(new DOMParser().parseFromString(await page.text(), "text/html"));
  live.textContent = gettext("Updated");
  lively = Date.now();
}

let lively = Date.now();
let looked = Date.now();
let next = 0;

async function watch() {
  clearTimeout(next);
  looked = Date.now();
  await look().catch(() => { live.textContent = gettext("Not connected; reload the page"); });
  next = setTimeout(watch, Date.now() - lively < CALM_AFTER_MS ? LOOK_MS : CALM_MS);
}

function stirred() {
  lively = Date.now();
  if (lively - looked > LOOK_MS) watch();
}

if (here) {
  next = setTimeout(watch, LOOK_MS);
  for (const kind of ["visibilitychange", "focus", "pointermove", "keydown", "scroll"]) addEventListener(kind, stirred, { passive: true });
}
