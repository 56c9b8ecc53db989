//! The template of the page: no network, no library, light and dark.

/// The page; `@DATA@` stands for what is drawn.
pub(super) const PAGE: &str = r##"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>surefoot crashtest</title>
<style>
:root {
  color-scheme: light dark;
  --page: #ffffff; --ink: #1b1f24; --soft: #5b6570; --line: #d5dae0; --panel: #f5f7f9; --band: #e9edf1;
  --old: #3a76c4; --mixed: #f0a312; --damaged: #9a4fbe; --new: #2f9e6a; --bad: #d3001f; --none: #eceff2;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14181d; --ink: #e8ecf0; --soft: #9aa5b1; --line: #333c46; --panel: #1c2229; --band: #28303a;
    --old: #5a9bea; --mixed: #ffbe3d; --damaged: #c07fe0; --new: #3fc088; --bad: #ff4b5c; --none: #222931;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 28px 24px 60px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif; }
h1 { font-size: 24px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -.01em; }
h2 { font-size: 17px; margin: 38px 0 6px; }
p { margin: 6px 0; max-width: 105ch; }
.soft { color: var(--soft); }
.verdict { margin: 18px 0; padding: 12px 16px; border-radius: 8px;
  background: var(--panel); border-left: 6px solid var(--new); font-size: 17px; }
.verdict.broken { border-left-color: var(--bad); }
.verdict b { font-weight: 650; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; margin: 16px 0; }
.tile { background: var(--panel); border-radius: 8px; padding: 10px 14px; }
.tile b { display: block; font-size: 21px; font-weight: 620; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 13px; }
.key { position: sticky; top: 0; z-index: 2; background: var(--page); border-bottom: 1px solid var(--line);
  padding: 9px 0; display: flex; flex-wrap: wrap; gap: 6px 20px; align-items: center; font-size: 14px; }
.key i { display: inline-block; width: 14px; height: 14px; border-radius: 3px; margin-right: 6px; vertical-align: -2px; }
.key .switch { margin-left: auto; display: flex; border: 1px solid var(--line); border-radius: 6px; overflow: hidden; }
.switch button { all: unset; cursor: pointer; padding: 3px 12px; font-size: 13px; color: var(--soft); }
.switch button[aria-pressed=true] { background: var(--ink); color: var(--page); }
.switch button:focus-visible { outline: 2px solid var(--old); outline-offset: -2px; }
figure { margin: 0; position: relative; }
canvas { display: block; width: 100%; touch-action: pan-y; }
#tip { position: fixed; z-index: 9; pointer-events: none; display: none; max-width: 430px; padding: 9px 12px;
  background: var(--ink); color: var(--page); border-radius: 7px; font-size: 13px; line-height: 1.45;
  box-shadow: 0 6px 24px rgba(0,0,0,.28); overflow-wrap: anywhere; }
#tip b { font-weight: 640; }
#tip table { border-spacing: 0; margin-top: 5px; }
#tip td { padding: 0 12px 0 0; white-space: nowrap; }
#tip td:last-child { padding: 0; text-align: right; font-variant-numeric: tabular-nums; }
#tip i { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 6px; }
.scroll { overflow-x: auto; }
table.all { border-collapse: collapse; font-size: 14px; width: 100%; font-variant-numeric: tabular-nums; }
table.all th, table.all td { text-align: right; padding: 4px 10px; border-bottom: 1px solid var(--line); }
table.all th { color: var(--soft); font-weight: 500; vertical-align: bottom; }
table.all td:nth-child(-n+2), table.all th:nth-child(-n+2) { text-align: left; }
table.all td.bad { color: var(--bad); font-weight: 650; }
a { color: inherit; }
summary { cursor: pointer; padding: 5px 0; font-weight: 600; }
pre { background: var(--panel); border-left: 6px solid var(--bad); border-radius: 8px; padding: 12px 16px; overflow-x: auto;
  font: 13px/1.45 ui-monospace, "Liberation Mono", Menlo, Consolas, monospace; }
</style>
<h1>Every moment at which the power may fail</h1>
<p class="soft" id="about"></p>
<div class="verdict" id="verdict"></div>
<div class="tiles" id="tiles"></div>
<div class="key" role="group" aria-label="legend">
  <span><i style="background:var(--old)"></i>old tree</span>
  <span><i style="background:var(--mixed)"></i>mixed: some paths old, some new</span>
  <span><i style="background:var(--damaged)"></i>damaged: in neither</span>
  <span><i style="background:var(--new)"></i>new tree</span>
  <span><i style="background:var(--bad)"></i>a promise is broken</span>
  <span class="switch" role="group" aria-label="height of a column">
    <button type="button" id="share" aria-pressed="true">share</button>
    <button type="button" id="count" aria-pressed="false">count</button>
  </span>
</div>
<p class="soft">Each column is a crash point: one call of the engine that the power cut prevented, in the order of the run.
Its colours are the states that the disk may be in then. The upper strip of a row is the tree as the next boot finds it,
the lower one the same states after recovery. Point at a column for the call and the numbers.</p>
<div id="figures"></div>
<div id="broken"></div>
<h2>In numbers</h2>
<div class="scroll"><table class="all" id="numbers"></table></div>
<p class="soft" id="honest"></p>
<div id="tip" role="status"></div>
<script type="application/json" id="data">@DATA@</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const el = (tag, attributes, ...children) => {
  const node = document.createElement(tag);
  Object.assign(node, attributes);
  node.append(...children);
  return node;
};
const by = id => document.getElementById(id);
const number = n => n.toLocaleString("en-US");
const plural = (n, one, many) => number(n) + " " + (n === 1 ? one : many || one + "s");
const rows = data.acts.flatMap(act => act.disks.map(disk => ({ act, disk })));
const sum = get => rows.reduce((total, row) => total + get(row.disk), 0);
const mixed = disk => disk.before.mixed + disk.before.damaged;
const violations = sum(disk => disk.after.violation);
const exhaustive = rows.every(row => row.disk.exhaustive);
const everywhere = rows.every(row => row.disk.crash_points === row.disk.moments);
const BEFORE = ["old", "mixed", "damaged", "new"], AFTER = ["old", "new", "bad"];
const WORDS = { old: "old tree", mixed: "mixed", damaged: "damaged", new: "new tree", bad: "promise broken" };
const PHASES = { idle: "look", staging: "staging", prepared: "prepared", steps: "steps", applied: "applied",
  back: "stepping back", closing: "closing" };
const shortened = text => text.replace(/[0-9a-f]{32}/g, id => id.slice(0, 8));

by("about").textContent = `${data.package}: ${data.from} \u2192 ${data.to} on ${data.base}. ` +
  `${data.touched} of ${plural(data.entries, "entry", "entries")} are touched and stand on the simulated disk; ` +
  `seed ${data.seed}, ${data.program}.` + (data.ignored_sync === null ? "" : ` The disk ignores sync ${data.ignored_sync}.`);
const verdict = by("verdict");
verdict.classList.toggle("broken", violations > 0);
verdict.append(violations > 0
  ? el("b", {}, `${plural(violations, "state")} of ${number(sum(disk => disk.judged))} break a promise.`)
  : el("b", {}, `No state of ${number(sum(disk => disk.judged))} breaks a promise.`),
  el("span", {}, ` ${number(sum(mixed))} were mixed when the power came back; after recovery ` +
    (violations > 0 ? "not each one" : "each one") + " is exactly the old or exactly the new tree. "));
if (violations > 0) verdict.append(el("a", { href: "#broken" }, "How it comes about"));
for (const [value, text] of [
  [number(sum(disk => disk.crash_points)), "crash points" + (everywhere ? ", all there are" : ` of ${number(sum(disk => disk.moments))}`)],
  [number(sum(disk => disk.states)), "states" + (exhaustive ? " of the model, all" : ` of ${number(sum(disk => disk.choices))}, sampled`)],
  [number(sum(disk => disk.judged)), "differ, and were judged"],
  [number(sum(mixed)), "mixed before recovery"],
  [number(violations), "violations after recovery"],
]) by("tiles").append(el("div", { className: "tile" }, el("b", {}, value), el("span", {}, text)));
if (violations > 0) by("broken").append(el("h2", {}, "How it comes about"));
data.violations.forEach((told, n) => by("broken").append(el("details", { open: n === 0 },
  el("summary", {}, `${told.title}, ${told.disk}: ${plural(told.count, "violation")}; the first, as short as it gets`),
  el("pre", {}, told.text))));
by("honest").textContent = exhaustive
  ? "Every call was a crash point, and every state that the model gives was tried."
  : `A sample: ${number(sum(disk => disk.crash_points))} of ${number(sum(disk => disk.moments))} crash points, spread ` +
    `evenly, with all that surround a barrier; at these, ${number(sum(disk => disk.states))} of the ` +
    `${number(sum(disk => disk.choices))} states that the model gives. --max-states raises it.`;

const head = ["what was done", "disk", "crash points", "states", "judged", "before: old", "mixed", "damaged", "new",
  "after: old", "new", "violations"];
const numbers = by("numbers");
numbers.append(el("thead", {}, el("tr", {}, ...head.map(text => el("th", {}, text)))));
const body = el("tbody", {});
for (const { act, disk } of rows) {
  const cells = [disk.crash_points, disk.states, disk.judged, disk.before.old, disk.before.mixed, disk.before.damaged,
    disk.before.new, disk.after.old, disk.after.new, disk.after.violation];
  body.append(el("tr", {}, el("td", {}, act.title), el("td", {}, disk.disk), ...cells.map((n, at) =>
    el("td", { className: at === 9 && n > 0 ? "bad" : "" }, number(n)))));
}
numbers.append(body);

let byCount = false;
const LEFT = 116, RIGHT = 10, TOP = 44, UPPER = 46, LOWER = 22, GAP = 16, FOOT = 46;
const figures = data.acts.map(act => {
  const canvas = el("canvas", { tabIndex: -1 });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${act.title}: states by crash point; the table below has the numbers`);
  by("figures").append(el("h2", {}, act.title[0].toUpperCase() + act.title.slice(1)), el("figure", {}, canvas));
  const figure = { act, canvas, hover: -1 };
  for (const disk of act.disks) {
    disk.columns = disk.found.map(found => {
      const before = [0, 0, 0, 0], after = [0, 0, 0];
      found.forEach((n, at) => { before[at / 3 | 0] += n; after[at % 3] += n; });
      return { before, after, total: before.reduce((a, b) => a + b, 0) };
    });
    disk.highest = Math.max(1, ...disk.columns.map(column => column.total));
  }
  return figure;
});

/// Adds up the columns that fall on one pixel, so that nothing is hidden by being narrow.
function pixels(figure, width) {
  const count = figure.act.moments.length;
  const columns = Math.min(count, Math.max(1, Math.floor(width)));
  const edges = Array.from({ length: columns + 1 }, (_, n) => Math.floor(n * count / columns));
  return { columns, edges };
}

function draw(figure) {
  const { act, canvas } = figure;
  const style = getComputedStyle(document.documentElement);
  const color = name => style.getPropertyValue("--" + name).trim();
  const width = canvas.clientWidth || 1100, ratio = window.devicePixelRatio || 1;
  const height = TOP + act.disks.length * (UPPER + LOWER + 3 + GAP) - GAP + FOOT;
  canvas.style.height = height + "px";
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const g = canvas.getContext("2d");
  g.scale(ratio, ratio);
  const inner = width - LEFT - RIGHT;
  const { columns, edges } = pixels(figure, inner);
  const x = column => LEFT + column * inner / columns;
  const at = moment => LEFT + moment * inner / act.moments.length;
  const snap = value => Math.round(value * ratio) / ratio;
  const font = (size, weight) => `${weight || 400} ${size}px system-ui, "Liberation Sans", Arial, sans-serif`;
  const bottom = height - FOOT;
  // The phases, as bands; then their names, on a second line where the first has no room.
  g.textBaseline = "middle";
  const bands = [];
  act.moments.forEach(([, , phase], n) => {
    const known = bands[bands.length - 1];
    if (known && known.phase === phase) known.end = n + 1;
    else bands.push({ phase, name: phase === "idle" && n ? "done" : PHASES[phase], start: n, end: n + 1 });
  });
  bands.forEach(({ start, end }, n) => {
    g.fillStyle = color(n % 2 ? "panel" : "band");
    g.fillRect(snap(at(start)), 0, snap(at(end)) - snap(at(start)), bottom + 4);
  });
  g.fillStyle = color("soft");
  g.font = font(12, 600);
  g.textAlign = "center";
  const taken = [-1e9, -1e9];
  for (const { name, start, end } of bands) {
    const wide = g.measureText(name).width, centre = (at(start) + at(end)) / 2;
    const middle = Math.max(LEFT + wide / 2, Math.min(width - RIGHT - wide / 2, centre));
    const level = taken.findIndex(until => middle - wide / 2 > until + 8);
    if (level < 0) continue;
    taken[level] = middle + wide / 2;
    g.fillText(name, middle, level ? 30 : 13);
  }
  act.disks.forEach((disk, row) => {
    const top = TOP + row * (UPPER + LOWER + 3 + GAP);
    g.textAlign = "right";
    g.fillStyle = color("ink");
    g.font = font(14, 600);
    g.fillText(disk.disk, LEFT - 12, top + 13);
    g.fillStyle = color("soft");
    g.font = font(11.5);
    g.fillText("before recovery", LEFT - 12, top + 32);
    g.fillText("after", LEFT - 12, top + UPPER + 3 + LOWER / 2);
    g.fillStyle = color("none");
    g.fillRect(LEFT, top, inner, UPPER);
    g.fillRect(LEFT, top + UPPER + 3, inner, LOWER);
    let highest = 1;
    const merged = [];
    for (let column = 0; column < columns; column++) {
      const before = [0, 0, 0, 0], after = [0, 0, 0];
      for (let n = edges[column]; n < edges[column + 1]; n++) {
        disk.columns[n].before.forEach((value, kind) => before[kind] += value);
        disk.columns[n].after.forEach((value, kind) => after[kind] += value);
      }
      const total = after[0] + after[1] + after[2];
      highest = Math.max(highest, total);
      merged.push({ before, after, total });
    }
    merged.forEach(({ before, after, total }, column) => {
      if (!total) return;
      const left = snap(x(column)), wide = Math.max(snap(x(column + 1)) - left, 1 / ratio);
      const stack = (counts, names, base, high) => {
        const full = byCount ? high * Math.sqrt(total / highest) : high;
        let y = base + high;
        counts.forEach((count, kind) => {
          if (!count) return;
          const rare = names[kind] === "bad" || names[kind] === "damaged" || names[kind] === "mixed";
          const part = Math.min(Math.max(full * count / total, rare ? 2 : 0), y - base);
          y -= part;
          g.fillStyle = color(names[kind]);
          g.fillRect(names[kind] === "bad" ? left - .5 : left, y, names[kind] === "bad" ? Math.max(wide, 2.5) : wide, part);
        });
      };
      stack(before, BEFORE, top, UPPER);
      stack(after, AFTER, top + UPPER + 3, LOWER);
    });
  });
  // The axis of crash points.
  g.fillStyle = color("soft");
  g.font = font(12);
  const calls = act.moments.length ? act.moments[act.moments.length - 1][0] : 0;
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000]
    .find(step => calls / step <= Math.max(2, inner / 74)) || 200000;
  let next = 0;
  act.moments.forEach(([call], n) => {
    if (call < next) return;
    const middle = (at(n) + at(n + 1)) / 2;
    g.fillRect(middle - .5, bottom + 4, 1, 4);
    g.textAlign = n === 0 ? "left" : "center";
    g.fillText(number(call), n === 0 ? LEFT : Math.min(middle, width - RIGHT - 14), bottom + 16);
    next = (Math.floor(call / step) + 1) * step;
  });
  g.textAlign = "left";
  g.fillText("crash point: number of the call that the power cut prevented \u2192", LEFT, bottom + 36);
  g.textAlign = "right";
  g.fillText(byCount ? "height: square root of the number of states" : "height: share of the states of a crash point",
    width - RIGHT, bottom + 36);
  if (figure.hover >= 0) {
    const middle = (at(figure.hover) + at(figure.hover + 1)) / 2;
    g.fillStyle = color("ink");
    g.fillRect(middle - .5, TOP - 4, 1, bottom - TOP + 8);
  }
}

function show(figure, event) {
  const box = figure.canvas.getBoundingClientRect();
  const { act } = figure, inner = box.width - LEFT - RIGHT;
  const n = Math.floor((event.clientX - box.left - LEFT) / inner * act.moments.length);
  const row = Math.floor((event.clientY - box.top - TOP + GAP / 2) / (UPPER + LOWER + 3 + GAP));
  const tip = by("tip"), disk = act.disks[row];
  if (n < 0 || n >= act.moments.length || !disk) return hide(figure);
  if (figure.hover !== n) { figure.hover = n; draw(figure); }
  const [call, text, phase] = act.moments[n], { before, after, total } = disk.columns[n];
  const line = (when, name, count) => el("tr", {}, el("td", {}, when),
    el("td", {}, el("i", { style: `background:var(--${name})` }), WORDS[name]), el("td", {}, number(count)));
  const lines = [];
  BEFORE.forEach((name, kind) => before[kind] && lines.push(line(lines.length ? "" : "before", name, before[kind])));
  const first = lines.length;
  AFTER.forEach((name, kind) => after[kind] && lines.push(line(lines.length > first ? "" : "after", name, after[kind])));
  tip.replaceChildren(el("b", {}, `call ${number(call)}, ${PHASES[phase]}`), el("div", {}, shortened(text)),
    el("div", {}, total ? `${disk.disk}: ${plural(total, "different state")}` : `${disk.disk}: left out of the sample`),
    el("table", {}, ...lines));
  tip.style.display = "block";
  const wide = tip.offsetWidth, high = tip.offsetHeight;
  tip.style.left = Math.max(6, Math.min(event.clientX + 16, innerWidth - wide - 10)) + "px";
  tip.style.top = (event.clientY + 18 + high > innerHeight ? Math.max(6, event.clientY - high - 14) : event.clientY + 18) + "px";
}
function hide(figure) {
  by("tip").style.display = "none";
  if (figure.hover >= 0) { figure.hover = -1; draw(figure); }
}
const drawAll = () => figures.forEach(draw);
for (const figure of figures) {
  figure.canvas.addEventListener("pointermove", event => show(figure, event));
  figure.canvas.addEventListener("pointerleave", () => hide(figure));
}
for (const id of ["share", "count"]) by(id).addEventListener("click", () => {
  byCount = id === "count";
  by("share").setAttribute("aria-pressed", !byCount);
  by("count").setAttribute("aria-pressed", byCount);
  drawAll();
});
addEventListener("resize", drawAll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
drawAll();
</script>
</html>
"##;
