"use strict";
// The files of the script are one: wave.js, page.js, pareto.js. `el`, `changedBy` and `draw` are in page.js.

// ---- the waveform: which parts were masked, and what was filled in ------------------------------
const LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", AROUND = 0.3;
function svg(tag, attributes, ...inside) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  e.append(...inside);
  return e;
}
function outline(code) {
  const heights = [...code].map(c => 1 + 47 * LEVELS.indexOf(c) / 63);
  const up = heights.map((h, i) => `${i} ${50 - h}`), down = heights.map((h, i) => `${i} ${50 + h}`).reverse();
  return `M${[...up, ...down].join("L")}Z`;
}
// Plays from a little before a window to a little after it: a masked piece is often too short to be heard alone.
const until = new WeakMap();
function playPart(audio, from, to) {
  until.set(audio, to + AROUND);
  audio.currentTime = Math.max(0, from - AROUND);
  const started = audio.play();
  if (started) started.catch(() => {});  // the file is not there any more: the player says so
}
function waveform(u, row, audio, name) {
  const box = el("div", "wave"), stage = el("div", "stage"), list = el("ul", "masks"), head = el("div", "playhead");
  const across = seconds => `${Math.min(100, 100 * seconds / u.d).toFixed(2)}%`;
  stage.append(svg("svg", { viewBox: `0 0 ${u.v.length - 1} 100`, preserveAspectRatio: "none", "aria-hidden": "true" }, svg("path", { d: outline(u.v) })));
  (row.m || []).forEach(([a, b], i) => {
    const s = row.s[i], from = a / 100, to = b / 100, mark = el("div", "mark"), number = el("span", "number", i + 1);
    mark.classList.toggle("kept", !changedBy(row, s));
    mark.style.left = number.style.left = across(from);
    mark.style.width = across(to - from);
    const before = s[2].join("").trim() || "∅", after = row.t.slice(s[0], s[0] + s[1]).join("").trim() || "∅";
    const button = el("button", "mask");
    button.type = "button";
    button.setAttribute("aria-label", `mask ${i + 1}, ${from.toFixed(2)} to ${to.toFixed(2)} seconds, draft ${before}, filled ${after}${audio ? "; play" : ""}`);
    button.append(el("b", "", i + 1), ` ${from.toFixed(2)}–${to.toFixed(2)} s `);
    if (changedBy(row, s)) button.append(el("s", "", before), " ");
    button.append(after);
    const lit = on => () => mark.classList.toggle("lit", on);
    for (const name of ["focus", "pointerenter"]) button.addEventListener(name, lit(true));
    for (const name of ["blur", "pointerleave"]) button.addEventListener(name, lit(false));
    if (audio) for (const e of [button, mark]) e.addEventListener("click", () => playPart(audio, from, to));
    stage.append(mark, number);
    const item = el("li");
    item.append(button);
    list.append(item);
  });
  if (list.childNodes.length) list.prepend(el("li", "legend", `masks of ${name}`));
  if (audio) {
    stage.append(head);
    audio.addEventListener("timeupdate", () => {
      head.style.left = across(audio.currentTime);
      if (audio.currentTime >= (until.get(audio) ?? Infinity)) audio.pause();
    });
    audio.addEventListener("pause", () => until.delete(audio));
  }
  box.append(stage, list);
  return box;
}
