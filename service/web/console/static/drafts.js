// What is typed stays until it was sent: by conversation and field, in this browser alone.
"use strict";

const drafts = (() => {
  const root = document.querySelector("[data-drafts]");
  const keyOf = (field) => `baton-draft ${root.dataset.drafts} ${field.id}`;
  const SENT = "baton-sent";

  function put(store, key, text) {
    try {
      if (text) store.setItem(key, text);
      else store.removeItem(key);
    } catch {
      // a browser that keeps nothing
    }
  }

  function get(store, key) {
    try {
      return store.getItem(key);
    } catch {
      return null;
    }
  }

  function restore() {
    for (const field of document.querySelectorAll("[data-draft]")) {
      const text = get(localStorage, keyOf(field));
      if (text && !field.value) field.value = text;
    }
  }

  // What was sent and not refused is no draft any longer.
  const sent = JSON.parse(get(sessionStorage, SENT) ?? "[]");
  put(sessionStorage, SENT, "");
  if (!document.querySelector(".notice.bad")) {
    for (const [key, text] of sent) if (get(localStorage, key) === text) put(localStorage, key, "");
  }
  restore();

  document.addEventListener("input", ({ target }) => {
    if (target.matches("[data-draft]")) put(localStorage, keyOf(target), target.value);
  });
  document.addEventListener("submit", ({ target }) => {
    const fields = [...target.querySelectorAll("[data-draft]")].filter((field) => field.value);
    put(sessionStorage, SENT, fields.length && JSON.stringify(fields.map((field) => [keyOf(field), field.value])));
  });
  return { restore };
})();

// Canned replies: `/` opens them, letters find, Enter puts one into the reply.
(() => {
  const reply = () => document.getElementById("reply-text");
  const list = () => document.getElementById("canned");
  const found = () => [...list().querySelectorAll("li:not([hidden]) button")];

  function arm() {
    const pick = list()?.querySelector(".pick");
    if (!pick) return;
    pick.hidden = false;
    for (const button of list().querySelectorAll("li button")) button.disabled = false;
  }

  function insert(button) {
    const field = reply();
    const text = button.closest("li").querySelector(".text").textContent;
    field.setRangeText(text, field.selectionStart, field.selectionEnd, "end");
    field.dispatchEvent(new Event("input", { bubbles: true }));
    close();
  }

  function close() {
    const find = document.getElementById("canned-find");
    if (find) {
      find.value = "";
      narrow(find);
    }
    list().open = false;
    reply().focus();
  }

  function narrow(find) {
    const words = find.value.toLowerCase().split(/\s+/);
    for (const item of list().querySelectorAll("li")) {
      item.hidden = !words.every((word) => item.textContent.toLowerCase().includes(word));
    }
  }

  document.addEventListener("baton:renewed", () => { arm(); drafts.restore(); });
  document.addEventListener("input", ({ target }) => { if (target.id === "canned-find") narrow(target); });
  document.addEventListener("click", ({ target }) => {
    const button = target.closest("#canned li button");
    if (button) insert(button);
  });
  document.addEventListener("toggle", ({ target }) => {
    if (target.id === "canned" && target.open) document.getElementById("canned-find")?.focus();
  }, true);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && event.target === reply() && !reply().value) {
      event.preventDefault();
      list().open = true;
      document.getElementById("canned-find")?.focus();
    } else if (event.target.closest("#canned")) {
      const at = found().indexOf(document.activeElement);
      if (event.key === "Escape") close();
      else if (event.key === "Enter" && event.target.id === "canned-find") {
        event.preventDefault();
        if (found().length) insert(found()[0]);
      } else if (event.key === "ArrowDown") found()[Math.min(at + 1, found().length - 1)]?.focus();
      else if (event.key === "ArrowUp") (found()[at - 1] ?? document.getElementById("canned-find")).focus();
    }
  });
  arm();
})();
