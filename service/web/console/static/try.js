// What a person writes, and what becomes of the handoff, appears by itself; what is typed stays.
"use strict";

(() => {
  const chat = document.querySelector(".try").dataset.chat;
  if (!chat) return;
  document.getElementById("newest")?.scrollIntoView({ block: "nearest" });

  async function look() {
    if (document.hidden) return;
    const answer = await fetch(`/console/try?c=${chat}`, { redirect: "error" });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of ["chat", "beside"]) {
      const [old, fresh] = [document.getElementById(id), page.getElementById(id)];
      const typed = [...old.querySelectorAll("textarea")].some((field) => field.value || field === document.activeElement);
      if (typed || old.contains(document.activeElement) || old.textContent.trim() === fresh.textContent.trim()) continue;
      old.replaceChildren(...fresh.childNodes);
      const said = id === "chat" && old.querySelector("#newest");
      if (said) {
        said.scrollIntoView({ block: "nearest" });
        baton.tell(said.innerText);
      }
    }
    baton.tick();
  }

  setInterval(() => { look().catch(() => undefined); }, 3000);
})();
