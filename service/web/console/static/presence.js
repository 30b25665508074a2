// Who else is in the console, and at which conversation of the queue.
"use strict";

(() => {
  const name = document.body.dataset.name;
  let places = null;

  function told(at, { one, many }) {
    const names = (places[at] ?? []).filter((other) => other !== name);
    return names.length ? (names.length > 1 ? many : one).replace("{names}", names.join(", ")) : "";
  }

  function show() {
    const line = document.getElementById("online");
    if (!places || !line) return;
    const others = (places[""] ?? []).filter((other) => other !== name);
    line.hidden = !others.length;
    line.querySelector("bdi").textContent = others.join(", ");
    for (const item of document.querySelectorAll(".item")) {
      const text = told(item.id, line.dataset);
      const old = item.querySelector(".looking");
      if (!text) old?.remove();
      else if (old) old.textContent = text;
      else {
        const made = document.createElement("span");
        made.className = "looking";
        made.textContent = text;
        item.querySelector(".facts").append(made);
      }
    }
  }

  document.addEventListener("baton:presence", ({ detail }) => {
    places = detail;
    show();
  });
  document.addEventListener("baton:handoff", show);
  document.addEventListener("baton:fresh", () => { places = null; });
})();
