// The queue, kept as the server would show it: a row comes, goes or moves as its handoff changes.
"use strict";

(() => {
  const page = () => document.getElementById("fresh").dataset;
  const list = (name) => document.getElementById(name);

  function place(handoff) {
    // Which list a handoff belongs to here; null for one that this page does not show.
    const { name } = page();
    if (handoff.status === "claimed" && handoff.claimed_by === name) return "own";
    const teams = JSON.parse(page().teams);
    if (teams.length && !teams.includes(handoff.team)) return null;
    return { waiting: "waiting", claimed: "claimed", unanswered: "overdue" }[handoff.status] ?? null;
  }

  function row(handoff) {
    const item = document.getElementById("item").content.firstElementChild.cloneNode(true);
    const part = (name) => item.querySelector(name);
    item.id = handoff.id;
    Object.assign(item.dataset, {
      priority: handoff.priority, opened: handoff.opened_at, changed: handoff.changed_at,
      raised: handoff.raised_at ?? "",
    });
    const names = { 1: gettext("urgent"), 2: gettext("high"), 3: gettext("normal"), 4: gettext("low") };
    part(".priority").className = `priority p${handoff.priority}`;
    part(".priority").textContent = names[handoff.priority];
    part(".said a").href = `/console/handoffs/${encodeURIComponent(handoff.id)}`;
    part(".text").textContent = handoff.said || handoff.conversation_id;
    part(".why").textContent = handoff.why;
    part(".team").textContent = handoff.team;
    const waits = handoff.status !== "claimed";
    if (!handoff.raised_at) part(".raised").remove();
    if (handoff.status === "unanswered") {
      const overdue = document.createElement("span");
      overdue.className = "overdue";
      overdue.textContent = gettext("overdue: nobody came in time");
      part(".waited").after(overdue);
    }
    part(".waited").firstChild.textContent = `${waits ? gettext("waits") : gettext("for")} `;
    part(".waited time").dataset.since = Date.parse(waits ? handoff.opened_at : handoff.claimed_at) / 1000;
    if (handoff.promised_at) {
      const due = new Date(handoff.promised_at);
      part(".promised time").dateTime = due.toISOString();
      part(".promised").classList.toggle("late", waits && handoff.status === "waiting" && due < Date.now());
    } else part(".promised").remove();
    if (waits) {
      part("form").action = `/console/handoffs/${encodeURIComponent(handoff.id)}/claim`;
      part("button").setAttribute("aria-describedby", handoff.id);
    } else {
      const isOwn = handoff.claimed_by === page().name;
      const by = document.createElement(isOwn ? "a" : "bdi");
      by.className = "by";
      by.textContent = isOwn ? gettext("Open") : handoff.claimed_by;
      if (isOwn) by.href = part(".said a").href;
      part("form").replaceWith(by);
    }
    baton.tick(item);
    word(handoff.id);
    return item;
  }

  // Events tell the reason in English; in another language it is asked for, of several rows at once.
  const unworded = new Set();
  function word(name) {
    if (document.documentElement.lang === "en") return;
    if (!unworded.size) setTimeout(async () => {
      const asked = new URLSearchParams([...unworded].slice(0, page().most).map((id) => ["id", id]));
      unworded.clear();
      const answer = await fetch(`/console/queue/reasons?${asked}`, { redirect: "error" }).catch(() => null);
      const found = answer?.ok ? await answer.json() : {};
      for (const [id, why] of Object.entries(found)) document.getElementById(id)?.querySelector(".why").replaceChildren(why);
    }, 300);
    unworded.add(name);
  }

  // Times are ISO 8601 in UTC, which sort as text does.
  const compare = (a, b) => (a < b ? -1 : Number(a > b));

  function before(one, other) {
    const [a, b] = [one.dataset, other.dataset];
    return a.priority - b.priority || compare(a.opened, b.opened) || compare(one.id, other.id);
  }

  function insert(into, item) {
    const { page: number, most } = page();
    const next = [...into.children].find((other) => before(item, other) < 0) ?? null;
    if (into.id === "waiting") {
      // An earlier page has those before the first row, a later one those after the last.
      const full = into.children.length >= Number(most);
      if (Number(number) > 1 && next === into.firstElementChild) return false;
      if (full && !next) return false;
      if (full) into.lastElementChild.remove();
    }
    into.insertBefore(item, next);
    return true;
  }

  function settle() {
    for (const name of ["own", "overdue", "waiting", "claimed"]) {
      const none = !list(name).children.length;
      list(name).hidden = none;
      if (name === "waiting") document.getElementById("nobody").hidden = !none;
      else list(name).closest("section").hidden = none;
    }
  }

  document.addEventListener("baton:handoff", ({ detail: handoff }) => {
    const old = document.getElementById(handoff.id);
    if (old && old.dataset.changed >= handoff.changed_at) return;
    const had = old?.closest("ol")?.id;
    const focused = old?.contains(document.activeElement);
    const urgent = handoff.raised_at && handoff.raised_at !== old?.dataset.raised;
    old?.remove();
    const name = place(handoff);
    if (name) {
      const item = row(handoff);
      const shown = insert(list(name), item);
      if (shown && name === "waiting" && had !== "waiting") {
        item.classList.add("new");
        setTimeout(() => item.classList.remove("new"), 4000);
        baton.tell(gettext("a conversation waits for %(team)s", handoff));
      }
      if (urgent) baton.tell(gettext("urgent: something serious was said in a conversation of %(whose)s", { whose: handoff.claimed_by ?? handoff.team }));
      if (shown && focused) item.querySelector("a").focus();
    }
    settle();
    // The next ones stand on the next page: they are fetched when this one has run short.
    if (had === "waiting" && list("waiting").children.length < page().most / 2 && document.querySelector(".pages")) baton.refresh();
  });

  document.addEventListener("baton:queue", ({ detail: { waiting } }) => {
    const all = Object.values(waiting).reduce((sum, count) => sum + count, 0);
    const chips = new Map([...document.querySelectorAll("[data-waiting]")].map((chip) => [chip.dataset.waiting, chip]));
    if (Object.keys(waiting).some((team) => !chips.has(team))) return baton.refresh();
    for (const [team, chip] of chips) chip.textContent = team ? waiting[team] ?? 0 : all;
    document.title = document.title.replace(/^(\(\d+\) )?/, all ? `(${all}) ` : "");
  });
})();
