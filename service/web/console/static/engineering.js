// The runs' own figures, drawn by plotly.js from this service, in the colours of the page.
"use strict";

const place = document.getElementById("figures");

function loaded(address) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = address;
    script.onload = resolve;
    script.onerror = reject;
    document.head.append(script);
  });
}

const DARK = matchMedia("(prefers-color-scheme: dark)").matches;
const LIGHTER = { "#0072B2": "#4da6e0", "#4D4D4D": "#b5bcc0", "#009E73": "#2fc79b" };

function coloured(trace) {
  for (const part of DARK ? [trace.line, trace.marker] : []) {
    if (part && LIGHTER[part.color]) part.color = LIGHTER[part.color];
  }
  return trace;
}

// A long title is broken once, where its first part ends.
function broken(text) {
  return text.length < 34 ? text : text.replace(/ \(|: |, /, (mark) => mark.trim() === "(" ? "<br>(" : `${mark.trim()}<br>`);
}

// Panels beside one another take the whole width; where that is little, they stand one upon another.
const axes = (layout, letter) => Object.keys(layout).filter((key) => new RegExp(`^${letter}axis\\d*$`).test(key));
const isBeside = (layout) => axes(layout, "x").some((name) => layout[name].domain?.[0] > 0);

function stacked(layout) {
  const [across, upwards] = ["x", "y"].map((letter) => axes(layout, letter));
  for (const [number, name] of across.entries()) {
    layout[name].domain = [0, 1];
    const top = 1 - number / across.length;
    layout[upwards[number]].domain = [top - 0.82 / across.length, top];
    const title = layout.annotations?.[number];
    if (title) Object.assign(title, { x: 0, xanchor: "left", y: top });
  }
  layout.height *= 1.7;
}

function look(layout) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const narrow = place.clientWidth < 600;
  layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
  layout.font = { ...layout.font, color: colour("--ink"), size: narrow ? 11 : 13 };
  layout.autosize = true;
  layout.title = { ...layout.title, font: { size: narrow ? 12 : 16 } };
  if (narrow && isBeside(layout)) stacked(layout);
  if (narrow) {
    layout.margin = { ...layout.margin, l: layout.margin?.l > 100 ? 116 : 48, r: 8 };
    Object.assign(layout.title, { text: broken(layout.title.text), x: 0.02, xref: "container", xanchor: "left" });
    const titles = (layout.annotations || []).filter((said) => said.xref === "paper" && said.yref === "paper");
    if (titles.length) layout.margin.t = (layout.margin.t ?? 80) + 24;
    for (const said of titles) {
      Object.assign(said, { text: broken(said.text), align: "left", font: { ...said.font, size: 11 } });
    }
  }
  for (const name of [...axes(layout, "x"), ...axes(layout, "y")]) {
    const axis = layout[name];
    Object.assign(axis, { gridcolor: colour("--line"), linecolor: colour("--soft"), tickcolor: colour("--soft") });
    if (narrow && axis.type === "date") Object.assign(axis, { tickangle: 0, nticks: 4 });
    if (narrow && axis.title?.text) axis.title = { ...axis.title, text: broken(axis.title.text), font: { size: 10 } };
  }
  for (const shape of DARK ? layout.shapes || [] : []) {
    shape.line = { ...shape.line, color: colour("--soft") };
  }
  return layout;
}

async function draw() {
  const found = await fetch(place.dataset.figures, { headers: { Accept: "application/json" } });
  if (!found.ok) throw new Error(found.statusText);
  const [figures] = await Promise.all([found.json(), loaded(place.dataset.script)]);
  const places = figures.map(({ sentence, figure }) => {
    const section = document.createElement("figure");
    const said = document.createElement("figcaption");
    const drawn = document.createElement("div");
    said.textContent = sentence;
    drawn.setAttribute("role", "img");
    drawn.setAttribute("aria-label", `${figure.layout.title.text}. ${sentence}`);
    section.classList.toggle("beside", isBeside(figure.layout));
    section.append(drawn, said);
    place.append(section);
    return drawn;
  });
  for (const [number, { figure }] of figures.entries()) {
    const given = { displayModeBar: false, responsive: true };
    await Plotly.newPlot(places[number], figure.data.map(coloured), look(figure.layout), given);
  }
}

draw().catch(() => {
  place.textContent = gettext("The figures could not be drawn just now; the tables hold the same numbers. Reload the page to try again.");
});
