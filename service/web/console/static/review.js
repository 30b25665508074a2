// Arrows for the message since which a person was needed.
"use strict";

const form = document.getElementById("review");
const marks = form ? [...form.querySelectorAll('input[name="since"]')] : [];

function mark(step) {
  const now = marks.findIndex((one) => one.checked);
  const next = now < 0 ? (step > 0 ? 0 : marks.length - 1) : now + step;
  if (next < 0 || next >= marks.length) {
    if (now >= 0) marks[now].checked = false;
    return;
  }
  marks[next].checked = true;
  marks[next].closest("li").scrollIntoView({ block: "center" });
}

document.addEventListener("keydown", (event) => {
  if (!form || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("textarea, select, input:not([type=radio])")) return;
  if (marks.length && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
    event.preventDefault();
    mark(event.key === "ArrowDown" ? 1 : -1);
    return;
  }
});

// One answer is sent once, however often the key is pressed.
form?.addEventListener("submit", (event) => {
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
});
addEventListener("pageshow", () => { if (form) delete form.dataset.sent; });
