// Times that pass, in the reader's own time zone.
"use strict";

function waited(seconds) {
  const minutes = Math.floor(Math.max(0, seconds) / 60);
  if (minutes < 1) return "now";
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 10) return `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
  return hours < 48 ? `${hours} h` : `${Math.floor(hours / 24)} days`;
}

function tick(root = document) {
  const now = Date.now() / 1000;
  for (const time of root.querySelectorAll("time[data-since]")) {
    time.textContent = waited(now - Number(time.dataset.since));
  }
  for (const time of root.querySelectorAll("time[data-clock]")) {
    const given = { weekday: "short", hour: "2-digit", minute: "2-digit" };
    time.textContent = new Date(time.dateTime).toLocaleString(undefined, given);
  }
}

tick();
setInterval(tick, 15000);
