// What happens is shown as it happens; where it cannot be heard, the page is fetched now and then.
//
// A page that wants more than that listens on `document` for "baton:handoff", "baton:queue",
// "baton:outcome", "baton:switch" and "baton:presence" (`detail` is the event's data). What may be fetched anew stands
// in an element with `data-fresh` and an id; its `data-after` says from where on events are heard.
"use strict";

const baton = (() => {
  const KINDS = ["handoff", "queue", "outcome", "switch", "presence"];
  const POLL_MS = 15000;
  const fresh = () => document.querySelector("[data-fresh]");
  const channel = "BroadcastChannel" in window ? new BroadcastChannel("baton") : null;
  let last = fresh()?.dataset.after ?? "";
  let polling = 0;
  let stale = false;

  function waited(seconds) {
    const minutes = Math.floor(Math.max(0, seconds) / 60);
    if (minutes < 1) return gettext("< 1 min");
    if (minutes < 60) return gettext("%(n)s min", { n: minutes });
    const hours = Math.floor(minutes / 60);
    if (hours < 10) return gettext("%(n)s h %(m)s min", { n: hours, m: String(minutes % 60).padStart(2, "0") });
    return hours < 48 ? gettext("%(n)s h", { n: hours }) : gettext("%(n)s days", { n: Math.floor(hours / 24) });
  }

  function tick(root = document) {
    const now = Date.now() / 1000;
    for (const time of root.querySelectorAll("time[data-since]")) {
      time.textContent = waited(now - Number(time.dataset.since));
    }
    for (const time of root.querySelectorAll("time[data-clock]")) {
      const at = new Date(time.dateTime);
      const day = Math.abs(now - at / 1000) < 6 * 86400 ? { weekday: "short" } : { day: "numeric", month: "short" };
      time.textContent = at.toLocaleString(locale, { ...day, hour: "2-digit", minute: "2-digit" });
    }
    for (const time of root.querySelectorAll("time[data-day]")) {
      time.textContent = new Date(time.dateTime).toLocaleDateString(locale, { day: "numeric", month: "short", year: "numeric" });
    }
  }

  function say(state, text) {
    const live = document.getElementById("live");
    if (live && live.dataset.state !== state) {
      live.dataset.state = state;
      live.textContent = text;
    }
  }

  let sayings = [];
  function tell(text) {
    // For screen readers: one sentence for all that came within a few seconds.
    if (!sayings.length) {
      setTimeout(() => {
        const told = document.getElementById("told");
        told.textContent = sayings.length > 1 ? gettext("%(n)s more: %(first)s", { n: sayings.length, first: sayings[0] }) : sayings[0];
        sayings = [];
      }, 3000);
    }
    sayings.push(text);
  }

  async function refresh() {
    const old = fresh();
    if (!old || document.hidden) {
      stale = Boolean(old);
      return;
    }
    stale = false;
    try {
      const answer = await fetch(location.href, { redirect: "manual", headers: { Accept: "text/html" } });
      if (answer.type === "opaqueredirect") return location.reload();
      if (!answer.ok) throw new Error(String(answer.status));
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const found = page.getElementById(old.id);
      if (!found) return;
      const focused = document.activeElement?.closest("[id]")?.id;
      document.title = page.title;
      last = found.dataset.after ?? last;
      old.replaceWith(document.adoptNode(found));
      if (focused && document.activeElement === document.body) document.getElementById(focused)?.querySelector("a, button")?.focus();
      tick();
      document.dispatchEvent(new CustomEvent("baton:fresh"));
      if (polling) say("slow", gettext("Updated now and then"));
    } catch {
      say("off", gettext("No connection; trying again"));
    }
  }

  function poll() {
    if (!polling) polling = setInterval(refresh, POLL_MS * (0.9 + Math.random() * 0.2));
  }

  function took(kind, id, data) {
    last = id;
    if (kind === "reset") return setTimeout(refresh, Math.random() * 5000);
    document.dispatchEvent(new CustomEvent(`baton:${kind}`, { detail: data }));
  }

  function hears(isLive) {
    if (isLive) {
      clearInterval(polling);
      polling = 0;
      say("live", gettext("Live"));
    } else {
      poll();
      say("slow", gettext("Connecting again"));
    }
  }

  function connect(ended) {
    const source = new EventSource(`/v1/events?after=${encodeURIComponent(last)}`);
    const pass = (message) => channel?.postMessage(message);
    const now = (isLive) => { hears(isLive); pass({ isLive }); };
    source.onopen = () => now(true);
    source.onerror = () => {
      now(false);
      if (source.readyState !== EventSource.CLOSED) return;
      setTimeout(() => connect(ended), POLL_MS);
      refresh();
    };
    for (const kind of [...KINDS, "reset"]) {
      source.addEventListener(kind, ({ lastEventId: id, data: text }) => {
        const data = JSON.parse(text);
        took(kind, id, data);
        pass({ kind, id, data });
      });
    }
    window.addEventListener("pagehide", () => { source.close(); ended?.(); }, { once: true });
  }

  function start() {
    if (!window.EventSource) return poll();
    if (!navigator.locks || !channel) return connect();
    // Browsers allow six connections to a host: of all open pages, one hears and tells the others.
    channel.onmessage = ({ data }) => {
      if (data.kind) took(data.kind, data.id, data.data);
      else hears(data.isLive);
    };
    return navigator.locks.request("baton-events", { ifAvailable: true }, (lock) => {
      if (lock) return new Promise((ended) => { connect(ended); });
      setTimeout(refresh, 1000); // what was told before this page listened
      hears(true);
      navigator.locks.request("baton-events", () => new Promise((ended) => { connect(ended); }));
      return undefined;
    });
  }

  tick();
  setInterval(tick, 15000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden && stale) refresh(); });
  let listening = Boolean(fresh());
  function listen() {
    // A page without a list of its own hears only where somebody wants to be told.
    if (listening || !window.EventSource || !navigator.locks || !channel) return;
    listening = true;
    start();
  }
  if (listening) {
    setInterval(refresh, 300000 * (0.9 + Math.random() * 0.2)); // banners and hours change, too
    start();
  }
  return { tell, tick, refresh, listen };
})();
