// Who wants to be told that somebody waits is told: on the desktop, by a sound, in the tab's icon.
"use strict";

(() => {
  const KEPT = "baton-alerts";
  const panel = document.getElementById("alerts");
  const icon = document.getElementById("icon");
  const plain = icon?.href;
  const name = document.body.dataset.name;
  let chosen = { notify: false, sound: false, badge: false, teams: [] };
  try {
    chosen = { ...chosen, ...JSON.parse(localStorage.getItem(KEPT) ?? "{}") };
  } catch {
    // nothing is kept: nothing was chosen
  }
  if (!name) return;

  function keep() {
    try {
      localStorage.setItem(KEPT, JSON.stringify(chosen));
    } catch {
      // for this page only
    }
  }

  function beep() {
    const audio = new AudioContext();
    const tone = audio.createOscillator();
    const volume = audio.createGain();
    tone.frequency.value = 660;
    volume.gain.setValueAtTime(0.15, audio.currentTime);
    volume.gain.exponentialRampToValueAtTime(0.001, audio.currentTime + 0.4);
    tone.connect(volume).connect(audio.destination);
    tone.start();
    tone.stop(audio.currentTime + 0.4);
    tone.onended = () => audio.close();
  }

  function alone(does) {
    // Of all open pages one tells.
    if (!navigator.locks) return does();
    return navigator.locks.request("baton-alert", { ifAvailable: true }, (lock) => lock && (does(), new Promise((done) => { setTimeout(done, 1000); })));
  }

  function show(handoff, title) {
    const told = new Notification(title, { body: handoff.said || handoff.conversation_id, tag: handoff.id });
    told.onclick = () => {
      window.focus();
      location.assign(`/console/handoffs/${encodeURIComponent(handoff.id)}`);
    };
  }

  const seen = new Map();
  document.addEventListener("baton:handoff", ({ detail: handoff }) => {
    const word = `${handoff.status} ${handoff.claimed_by} ${handoff.raised_at}`;
    if (seen.get(handoff.id) === word) return;
    seen.set(handoff.id, word);
    const own = handoff.claimed_by === name;
    if (chosen.teams.length && !own && !chosen.teams.includes(handoff.team)) return;
    const given = own && handoff.status === "claimed" && document.hidden;
    if (handoff.status !== "waiting" && !given && !(own && handoff.raised_at)) return;
    const title = given ? gettext("A conversation is yours")
      : handoff.priority === 1 ? gettext("Urgent: somebody waits for %(team)s", handoff) : gettext("Somebody waits for %(team)s", handoff);
    alone(() => {
      if (chosen.sound) beep();
      if (chosen.notify && window.Notification?.permission === "granted") show(handoff, title);
    });
  });

  function badge(waiting) {
    if (icon) icon.href = chosen.badge && waiting ? `/console/icon/${Math.min(waiting, 100)}.svg` : plain;
  }
  const shown = () => Number(document.querySelector("[data-waiting='']")?.textContent ?? 0);
  document.addEventListener("baton:queue", ({ detail: { waiting } }) => {
    const counts = Object.entries(waiting).filter(([team]) => !chosen.teams.length || chosen.teams.includes(team));
    badge(counts.reduce((sum, [, count]) => sum + count, 0));
  });
  badge(shown());

  if (chosen.notify || chosen.sound || chosen.badge) baton.listen();
  if (!panel) return;
  panel.hidden = false;
  const said = document.getElementById("alerts-said");
  for (const box of panel.querySelectorAll("input")) {
    box.checked = chosen[box.name];
    box.addEventListener("change", async () => {
      chosen[box.name] = box.checked;
      chosen.teams = JSON.parse(document.getElementById("fresh").dataset.teams);
      keep();
      said.textContent = "";
      if (box.name === "badge") badge(shown());
      if (box.name === "sound" && box.checked) beep();
      if (box.name === "notify" && box.checked && await window.Notification?.requestPermission() !== "granted") {
        said.textContent = gettext("This browser does not allow notifications from here.");
      }
    });
  }
})();
