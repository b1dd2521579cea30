
// ---- error rate against speed: points that can be pointed at, walked through and told apart ------
const SHAPES = [  // paths around (0, 0), with the colours, for eyes and printers that see none
  "M-5 0A5 5 0 1 0 5 0A5 5 0 1 0 -5 0Z", "M-4.5 -4.5H4.5V4.5H-4.5Z", "M0 -6.5L6.5 0L0 6.5L-6.5 0Z", "M0 -6L5.8 4.5H-5.8Z", "M0 6L5.8 -4.5H-5.8Z",
  "M-2 -6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z", "M0 -7L1.8 -2.2L6.7 -2.2L2.8 0.9L4.2 5.8L0 2.9L-4.2 5.8L-2.8 0.9L-6.7 -2.2L-1.8 -2.2Z", "M-6 -3L-3 -6L0 -3L3 -6L6 -3L3 0L6 3L3 6L0 3L-3 6L-6 3L-3 0Z"];
const percent = share => `${(100 * share).toFixed(2)} %`;
function ticks(from, to, log) {
  if (log) {
    const all = [];
    for (let e = Math.floor(Math.log10(from)); e <= Math.log10(to); e++) for (const m of [1, 2, 5]) all.push(m * 10 ** e);
    const inside = all.filter(t => t >= from && t <= to);
    return inside.length > 7 ? inside.filter(t => /^1/.test(String(t * 1e6))) : inside;
  }
  const raw = (to - from) / 5, size = 10 ** Math.floor(Math.log10(raw)), step = size * [1, 2, 5, 10].find(m => m * size >= raw);
  return Array.from({ length: 12 }, (_, i) => Number(((Math.ceil(from / step) + i) * step).toPrecision(6))).filter(t => t <= to);
}
function plane(found) {
  const points = found.points.slice().sort((a, b) => a.rtfx - b.rtfx), box = by("points"), hidden = new Set();
  let current = points.findIndex(p => p.name === data.predictions[data.best].prediction);
  if (current < 0) current = points.findIndex(p => p.front);
  const group = p => p.set[by("by").value] ?? "none";
  const groups = () => [...new Set(points.map(group))].sort((a, b) => inOrder(Number(a), Number(b)) || inOrder(a, b));
  const style = name => { const i = groups().indexOf(name); return { d: SHAPES[i % SHAPES.length], fill: found.colors[i % found.colors.length] }; };
  const shown = () => points.filter(p => !hidden.has(group(p)));
  let x, y, frame, layer;

  function render() {
    const active = box.contains(document.activeElement), few = shown();
    const W = Math.max(280, box.clientWidth), H = W < 500 ? 300 : 400, left = 52, right = 14, top = 14, bottom = 42;
    const speeds = points.map(p => p.rtfx), rates = points.map(p => 100 * p.wer), log = Math.max(...speeds) > 8 * Math.min(...speeds);
    const place = log ? Math.log : v => v;
    const span = (values, share) => { const a = Math.min(...values), b = Math.max(...values), more = share * (b - a || Math.abs(b) || 1); return [a - more, b + more]; };
    const [x0, x1] = span(speeds.map(place), 0.06), [y0, y1] = span(rates, 0.1);
    x = p => left + (W - left - right) * (place(p.rtfx) - x0) / (x1 - x0);
    y = p => H - bottom - (H - top - bottom) * (100 * p.wer - y0) / (y1 - y0);
    frame = { top, bottom: H - bottom };
    const root = svg("svg", { width: W, height: H, viewBox: `0 0 ${W} ${H}`, tabindex: 0, role: "img",
      "aria-label": `error rate against speed of ${points.length} settings; arrow keys walk from slow to fast` });
    for (const t of ticks(log ? Math.exp(x0) : Math.max(x0, 0), log ? Math.exp(x1) : x1, log)) {
      const at = x({ rtfx: t, wer: 0 });
      root.append(svg("line", { class: "grid", x1: at, x2: at, y1: top, y2: H - bottom }), svg("text", { x: at, y: H - bottom + 16, "text-anchor": "middle" }, String(Number(t.toPrecision(3)))));
    }
    for (const t of ticks(y0, y1, false)) {
      const at = y({ rtfx: 1, wer: t / 100 });
      root.append(svg("line", { class: "grid", x1: left, x2: W - right, y1: at, y2: at }), svg("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, String(t)));
    }
    root.append(svg("text", { x: (left + W - right) / 2, y: H - 6, "text-anchor": "middle" }, `RTFx, seconds of audio per second${log ? " (logarithmic)" : ""}`));
    root.append(svg("text", { transform: `translate(13 ${(top + H - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, "WER (%)"));
    root.append(svg("path", { class: "front", d: few.filter(p => p.front).map((p, i) => `${i ? "L" : "M"}${x(p)} ${y(p)}`).join("") }));
    for (const p of few) root.append(svg("path", { class: "point", transform: `translate(${x(p)} ${y(p)})`, ...style(group(p)) }));
    layer = svg("g", {});
    root.append(layer);
    root.addEventListener("keydown", walk);
    for (const name of ["pointermove", "pointerdown"]) root.addEventListener(name, e => { const i = nearest(e); if (i >= 0) show(i); });
    root.addEventListener("click", e => { if (nearest(e) >= 0) choose(); });
    box.replaceChildren(root);
    if (active) root.focus();
    if (few.length) show(hidden.has(group(points[current])) ? points.indexOf(few[0]) : current);
  }
  function nearest(e) {
    const at = box.firstChild.getBoundingClientRect(), px = e.clientX - at.left, py = e.clientY - at.top;
    let best = -1, least = 24;  // pixels
    for (const p of shown()) {
      const far = Math.hypot(x(p) - px, y(p) - py);
      if (far < least) { least = far; best = points.indexOf(p); }
    }
    return best;
  }
  function show(index) {
    current = index;
    const p = points[index], within = v => Math.max(frame.top, Math.min(frame.bottom, v)), low = within(y({ ...p, wer: p.low })), high = within(y({ ...p, wer: p.high }));
    layer.replaceChildren(svg("path", { class: "interval", d: `M${x(p)} ${low}V${high}M${x(p) - 5} ${low}h10M${x(p) - 5} ${high}h10` }),
      svg("circle", { class: "ring", cx: x(p), cy: y(p), r: 10 }), svg("path", { class: "point", transform: `translate(${x(p)} ${y(p)})`, ...style(group(p)) }));
    const set = Object.entries(p.set).map(([name, value]) => name === "decoder" ? value : `${name} ${value}`).join(", ");
    by("point").textContent = `${p.name}: WER ${percent(p.wer)} (95 % interval ${percent(p.low)} to ${percent(p.high)}), RTFx ${Number(p.rtfx.toPrecision(3))}`
      + `${p.front ? ", beaten by none in both" : ""}. ${set}.`;
  }
  function walk(e) {
    const few = shown(), at = few.indexOf(points[current]);
    const to = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, Home: 0, End: few.length - 1 }[e.key];
    if (e.key === "Enter" || e.key === " ") choose();
    else if (to === undefined) return;
    else if (few[to]) show(points.indexOf(few[to]));
    e.preventDefault();
  }
  function choose() {
    const index = data.predictions.findIndex(p => p.prediction === points[current].name);
    if (index >= 0) { pick.value = index; draw(); }
  }
  function legend() {
    hidden.clear();
    by("groups").replaceChildren(...groups().map(name => {
      const button = el("button"), grouping = by("by").value;
      button.type = "button";
      button.setAttribute("aria-pressed", "true");
      button.append(svg("svg", { width: 16, height: 16, viewBox: "-8 -8 16 16", "aria-hidden": "true" }, svg("path", style(name))), grouping === "decoder" ? name : `${grouping} ${name}`);
      button.addEventListener("click", () => {
        if (!hidden.delete(name)) hidden.add(name);
        button.setAttribute("aria-pressed", String(!hidden.has(name)));
        render();
      });
      return button;
    }));
    render();
  }
  by("plane").hidden = false;
  found.by.forEach(name => by("by").append(new Option(name, name)));
  if (found.by.length > 1 && new Set(points.map(p => p.set.decoder)).size === 1) by("by").selectedIndex = 1;
  by("by").addEventListener("change", legend);
  let width = box.clientWidth;
  new ResizeObserver(() => { if (box.clientWidth !== width) { width = box.clientWidth; render(); } }).observe(box);
  legend();
}
if (data.plane) plane(data.plane);
