// One set of keys everywhere: what carries `data-key` is pressed, or written in, by that key.
"use strict";

(() => {
  const REMEMBERED = "baton-keys";
  const dialog = document.getElementById("keys-dialog");
  const box = document.getElementById("keys");

  function kept() {
    try {
      return localStorage.getItem(REMEMBERED) !== "off";
    } catch {
      return true; // a browser that keeps nothing: the keys are on, to be switched off on each page
    }
  }

  if (!dialog) return;
  box.checked = kept();
  box.addEventListener("change", () => {
    try {
      localStorage.setItem(REMEMBERED, box.checked ? "on" : "off");
    } catch {
      // for this page only
    }
  });
  const opener = document.getElementById("keys-open");
  opener.hidden = false;
  opener.addEventListener("click", () => dialog.showModal());

  function press(target) {
    if (target.matches("textarea, input")) return target.focus();
    if (!target.matches("summary")) return target.click();
    target.parentElement.open = true;
    return (target.parentElement.querySelector("input") ?? target).focus();
  }

  function step(down) {
    const links = [...document.querySelectorAll(".item .said a, .found > a")].filter((one) => one.checkVisibility());
    if (!links.length) return;
    const at = links.indexOf(document.activeElement);
    links.at(Math.min(links.length - 1, Math.max(0, at < 0 ? 0 : at + (down ? 1 : -1)))).focus();
  }

  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.form?.requestSubmit && event.target.matches("textarea[data-draft]")) {
      event.preventDefault();
      event.target.form.requestSubmit();
      return;
    }
    const typing = event.target.closest("input:not([type=radio], [type=checkbox]), textarea, select");
    if (typing && event.key === "Escape") typing.blur();
    if (typing || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!box.checked || dialog.open) return;
    const key = event.key.toLowerCase();
    if (key === "?") return void dialog.showModal();
    if (key === "j" || key === "k") return void step(key === "j");
    const target = [...document.querySelectorAll(`[data-key="${CSS.escape(key)}"]`)].find((one) => one.checkVisibility());
    if (!target) return;
    event.preventDefault();
    press(target);
  });
})();
