
"use strict";
// Everything that the predictions hold goes into the page as textContent; nothing here parses HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const by = id => document.getElementById(id);
const pick = by("prediction"), beside = by("beside"), filter = by("filter"), find = by("find"), list = by("utterances");
const SHOWN = 200;
function el(tag, cls, text) {
  const e = document.createElement(tag);
  if (cls) e.className = cls;
  if (text !== undefined) e.textContent = text;
  return e;
}

// ---- words: slots of the aligned text ----------------------------------------------------------
// Of each word of u.w what was said there ("" for nothing), and of each gap what was said before the word.
function slots(u, row) {
  const said = u.w.slice(), before = Array.from({ length: u.w.length + 1 }, () => "");
  for (const [i, text, inserted] of row.x) {
    if (inserted) before[i] += (before[i] ? " " : "") + text; else said[i] = text;
  }
  return { said, before };
}
function words(u, row, chosen) {
  const box = el("div", "words"), mine = slots(u, row), theirs = slots(u, chosen);
  const add = (text, wrong, other) => {
    if (!text && !other && !wrong) return;
    box.append(el("span", [wrong ? "wrong" : "", other ? "other" : ""].join(" ").trim(), text || "∅"), " ");
  };
  for (let i = 0; i <= u.w.length; i++) {
    add(mine.before[i], u.k && mine.before[i] !== "", mine.before[i] !== theirs.before[i]);
    if (i < u.w.length) add(mine.said[i], u.k && mine.said[i] !== u.w[i], mine.said[i] !== theirs.said[i]);
  }
  return box;
}

// ---- tokens, drafts and fills ------------------------------------------------------------------
const shade = c => c === null || c === undefined || c >= 995 ? "transparent" : `rgba(200, 40, 30, ${Math.min(1, 0.15 + (1 - c / 1000) * 1.1)})`;
function token(text, confidence, cls) {
  const span = el("span", cls || "", text), known = confidence !== null && confidence !== undefined;
  span.title = known ? `confidence ${confidence / 1000}` : "confidence not known";
  span.style.borderBottomColor = shade(confidence);
  return span;
}
const changedBy = (row, [i, n, draft]) => draft.join("") !== row.t.slice(i, i + n).join("");
function fills(row) {
  const box = el("div", "tokens");
  let i = 0;
  for (const s of row.s || []) {
    for (; i < s[0]; i++) box.append(token(row.t[i], row.c[i]));
    const fill = el("span", "fill");
    if (changedBy(row, s)) fill.append(el("s", "", s[2].join("") || "∅"));
    for (const end = i + s[1]; i < end; i++) fill.append(token(row.t[i], row.c[i]));
    if (s[1] === 0) fill.append(el("span", "", "∅"));
    box.append(fill);
  }
  for (; i < row.t.length; i++) box.append(token(row.t[i], row.c[i]));
  return box;
}
function draft(row) {
  const box = el("div", "tokens");
  let i = 0;
  for (const [start, n, texts, confidences] of row.s) {
    for (; i < start; i++) box.append(token(row.t[i], row.c[i]));
    texts.forEach((text, k) => box.append(token(text, confidences[k], "fill")));
    i += n;
  }
  for (; i < row.t.length; i++) box.append(token(row.t[i], row.c[i]));
  return box;
}

// ---- the list of utterances --------------------------------------------------------------------
function line(name, content, cls) {
  const row = el("div", cls ? `line ${cls}` : "line");
  row.append(el("b", "", name), content);
  return row;
}
function article(u, chosen) {
  const box = el("article", "utterance"), head = el("header"), row = u.p[chosen];
  head.append(el("span", "", u.id));
  if (u.d !== undefined) head.append(el("span", "", `${u.d} s`));
  if (row.e !== undefined) head.append(el("span", "", `${row.e} of ${u.w.length} words wrong`));
  let audio = null;
  if (u.a) {
    audio = el("audio");
    audio.controls = true;
    audio.preload = "none";
    audio.src = u.a;
    head.append(audio);
  }
  box.append(head);
  const others = beside.value === "" ? data.beside : [Number(beside.value)];
  if (u.v) {  // the segments of the chosen prediction, or of the first beside it that has some
    const marked = [chosen, ...others].find(i => u.p[i] && u.p[i].m) ?? chosen;
    box.append(waveform(u, u.p[marked], audio, data.predictions[marked].prediction));
  }
  if (u.k) box.append(line("reference", el("div", "words", u.w.join(" "))));
  for (const i of new Set([...others, chosen])) {
    if (u.p[i]) box.append(line(data.predictions[i].prediction, words(u, u.p[i], row), i === chosen ? "chosen" : ""));
  }
  if (row.s) box.append(line("draft", draft(row)));
  box.append(line(row.s ? "fills" : "tokens", fills(row)));
  return box;
}
const differ = u => { const texts = u.p.filter(row => row).map(row => JSON.stringify(row.x)); return texts.some(x => x !== texts[0]); };
const filters = {
  all: () => true,
  errors: (u, row) => row.e > 0,
  differ: u => differ(u),
  segments: (u, row) => row.s !== undefined,
  changed: (u, row) => (row.s || []).some(s => changedBy(row, s)),
};
function has(u, row, wanted) {
  return [u.id, row.t.join(""), u.w.join(" ")].some(text => text.toLowerCase().includes(wanted));
}
function draw() {
  const chosen = Number(pick.value), wanted = find.value.trim().toLowerCase();
  const found = data.utterances.filter(u => u.p[chosen] && filters[filter.value](u, u.p[chosen]) && (!wanted || has(u, u.p[chosen], wanted)));
  list.replaceChildren(...found.slice(0, SHOWN).map(u => article(u, chosen)));
  by("count").textContent = `${found.length} utterances` + (found.length > SHOWN ? `, the first ${SHOWN} shown` : "");
  by("header").replaceChildren();
  for (const [name, text] of Object.entries(data.predictions[chosen])) by("header").append(el("dt", "", name), el("dd", "", text));
}

// ---- the slider of thresholds ------------------------------------------------------------------
function slide() {
  const points = data.thresholds[Number(by("line").value)].points, slider = by("threshold");
  slider.max = points.length - 1;
  const [threshold, wer, masked, rtfx, name] = points[Math.min(Number(slider.value), points.length - 1)];
  const speed = rtfx ? `, RTFx ${rtfx.toPrecision(3)}` : "";
  by("at").textContent = `threshold ${threshold}: WER ${(100 * wer).toFixed(2)} %, masked ${(100 * masked).toFixed(2)} % of the tokens${speed} (${name})`;
  const index = data.predictions.findIndex(p => p.prediction === name);
  return index;
}
if (data.thresholds.length) {
  by("thresholds").hidden = false;
  data.thresholds.forEach((line, i) => by("line").append(new Option(line.setting, i)));
  const start = (i, k) => { by("line").value = i; by("threshold").max = data.thresholds[i].points.length - 1; by("threshold").value = k; };
  const best = data.predictions[data.best].prediction;
  start(0, data.thresholds[0].points.reduce((k, point, i, all) => point[1] < all[k][1] ? i : k, 0));  // the lowest WER
  data.thresholds.forEach((line, i) => line.points.forEach((point, k) => { if (point[4] === best) start(i, k); }));
  const moved = () => { const index = slide(); if (index >= 0) { pick.value = index; draw(); } };
  for (const name of ["line", "threshold"]) by(name).addEventListener("input", moved);
  slide();
}

// ---- tables: the head of a column sorts by it, the second time the other way round ----------------
function sortKey(cell) {
  const text = cell.textContent.trim(), number = Number(text.replace("%", ""));
  return text === "" ? null : Number.isNaN(number) ? text : number;
}
function inOrder(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}
for (const table of document.querySelectorAll(".wide table")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = el("button", "", head.textContent);
    button.type = "button";
    head.scope = "col";
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const way = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
      const rows = [...body.rows].map(row => [sortKey(row.cells[column]), row]);
      const known = rows.filter(([key]) => key !== null).sort(([a], [b]) => way * inOrder(a, b));
      body.append(...[...known, ...rows.filter(([key]) => key === null)].map(([, row]) => row));  // empty cells come last
    });
  });
}

data.predictions.forEach((p, i) => { for (const s of [pick, beside]) s.append(new Option(p.prediction, i)); });
pick.value = data.best;
for (const control of [pick, beside, filter]) control.addEventListener("change", draw);
find.addEventListener("input", draw);
draw();
