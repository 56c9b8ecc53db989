//! The template of the page: no network, no library, light and dark.

/// The page; `@DATA@` stands for what is drawn.
pub(super) const PAGE: &str = r##"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>surefoot: what makes a package large</title>
<style>
:root { color-scheme: light dark; --page: #fff; --ink: #1b1f24; --soft: #5b6570; --line: #d5dae0; --panel: #f5f7f9;
  --new: #c2562d; --differences: #b08900; --places: #3a76c4; --text: #2f8f63; --other: #7c6fa8; --label: #fff; }
@media (prefers-color-scheme: dark) { :root { --page: #14181d; --ink: #e8ecf0; --soft: #9aa5b1; --line: #333c46;
  --panel: #1c2229; --new: #d9683c; --differences: #b8952a; --places: #4f8ad6; --text: #35a374; --other: #8f82bd; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 28px 24px 60px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif; }
h1 { font-size: 24px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -.01em; }
h2 { font-size: 17px; margin: 34px 0 6px; }
.soft { color: var(--soft); max-width: 105ch; }
.bar { display: flex; height: 30px; border-radius: 7px; overflow: hidden; margin: 16px 0 8px; gap: 2px; }
.bar div { min-width: 1px; }
.key { display: flex; flex-wrap: wrap; gap: 4px 20px; font-size: 14px; margin-bottom: 14px; }
.key i { display: inline-block; width: 13px; height: 13px; border-radius: 3px; margin-right: 6px; vertical-align: -2px; }
.key b { font-variant-numeric: tabular-nums; font-weight: 600; }
#map { position: relative; height: 640px; background: var(--panel); border-radius: 8px; overflow: hidden; }
#map div { position: absolute; overflow: hidden; font-size: 12px; line-height: 1.25; }
#map .folder { border: 1px solid var(--line); color: var(--soft); padding: 1px 5px; white-space: nowrap;
  text-overflow: ellipsis; }
#map .file { color: var(--label); padding: 3px 5px; border-radius: 2px; overflow-wrap: anywhere; cursor: default; }
#map .file:hover { outline: 2px solid var(--ink); outline-offset: -2px; }
#tip { position: fixed; z-index: 9; pointer-events: none; display: none; max-width: 460px; padding: 9px 12px;
  background: var(--ink); color: var(--page); border-radius: 7px; font-size: 13px; overflow-wrap: anywhere;
  box-shadow: 0 6px 24px rgba(0,0,0,.28); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 4px 10px; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; }
</style>
<h1>What makes this package large</h1>
<p class="soft" id="about"></p>
<div class="bar" id="bar" role="img" aria-label="bytes by cause"></div>
<div class="key" id="key"></div>
<div id="map" role="img" aria-label="bytes by path and cause"></div>
<p class="soft">Each area is a file, as large as its bytes in the package, in the colour of what most of them are for.
Files that share a stream share its bytes by what they have put into it; text and archives that are packed together, by
their length.</p>
<h2>The most expensive files</h2>
<div class="scroll"><table id="table"></table></div>
<div id="tip"></div>
<script>
const data = @DATA@;
const causes = [["new", "new content"], ["differences", "differences from what was copied"],
  ["places", "where copies are from, and differ"], ["text", "text, packed behind old text"],
  ["other", "headers, archives, packed together"]];
const bytes = n => n < 1024 ? Math.round(n) + " B" : n < 1048576 ? (n / 1024).toFixed(1) + " KiB"
  : (n / 1048576).toFixed(2) + " MiB";
const make = (tag, text, style) => { const e = document.createElement(tag); e.textContent = text || "";
  Object.assign(e.style, style || {}); return e; };
const put = (id, ...all) => document.getElementById(id).append(...all);
const tiles = data.map.tiles.map(t => ({ ...t, bytes: causes.reduce((sum, [c]) => sum + t.causes[c], 0) }));
tiles.sort((a, b) => b.bytes - a.bytes);
const sums = Object.fromEntries(causes.map(([c]) => [c, tiles.reduce((sum, t) => sum + t.causes[c], 0)]));
const fixed = [["views", "address maps and views", data.map.views], ["manifest", "manifest, signatures", data.map.manifest]];
const all = data.bytes;
put("about", `${data.package}: ${data.kind} ${data.from ? data.from + " to " : "of "}${data.to}, ${bytes(all)} for ` +
  `${tiles.length} contents of ${bytes(tiles.reduce((sum, t) => sum + t.size, 0))}`);
for (const [c, name] of causes.concat(fixed.map(([c, name]) => [c, name]))) {
  const n = sums[c] ?? fixed.find(f => f[0] === c)[2];
  if (n < 0.5) continue;
  const colour = sums[c] === undefined ? "var(--soft)" : `var(--${c})`;
  put("bar", make("div", "", { background: colour, flex: n + " 0 0" }));
  const entry = make("span"); entry.append(make("i", "", { background: colour }), name + " ", make("b", bytes(n)));
  put("key", entry);
}
const main = t => causes.reduce((best, [c]) => t.causes[c] > t.causes[best] ? c : best, "new");
function tree(list) {
  const root = { name: "", bytes: 0, children: new Map() };
  for (const t of list) {
    let at = root; root.bytes += t.bytes;
    const names = t.path.split("/");
    names.forEach((name, depth) => {
      if (!at.children.has(name)) at.children.set(name, { name, bytes: 0, children: new Map() });
      at = at.children.get(name); at.bytes += t.bytes;
      if (depth === names.length - 1) at.tile = t;
    });
  }
  return root;
}
function squarify(items, x, y, w, h, draw) {
  let rest = items.filter(i => i.bytes > 0).sort((a, b) => b.bytes - a.bytes);
  let left = rest.reduce((sum, i) => sum + i.bytes, 0);
  while (rest.length && w > 0 && h > 0) {
    const side = Math.min(w, h), scale = w * h / left;
    const worst = (row, sum) => Math.max(side * side * row[0].bytes / (sum * sum * scale),
      sum * sum * scale / (side * side * row[row.length - 1].bytes));
    let row = [rest[0]], sum = rest[0].bytes;
    while (row.length < rest.length) {
      const next = rest[row.length];
      if (worst([...row, next], sum + next.bytes) > worst(row, sum)) break;
      row.push(next); sum += next.bytes;
    }
    const thick = sum * scale / side; let at = 0;
    for (const item of row) {
      const length = side * item.bytes / sum;
      if (w >= h) draw(item, x, y + at, thick, length); else draw(item, x + at, y, length, thick);
      at += length;
    }
    if (w >= h) { x += thick; w -= thick; } else { y += thick; h -= thick; }
    rest = rest.slice(row.length); left -= sum;
  }
}
const map = document.getElementById("map"), tip = document.getElementById("tip");
let drawn = 0;
function node(item, x, y, w, h, depth) {
  if (w < 2 || h < 2 || drawn > 6000) return;
  const box = { left: x + "px", top: y + "px", width: w + "px", height: h + "px" };
  drawn += 1;
  if (item.tile) {
    const t = item.tile, file = make("div", w > 44 && h > 18 ? item.name : "",
      { ...box, left: x + .5 + "px", top: y + .5 + "px", width: w - 1 + "px", height: h - 1 + "px",
        background: `var(--${main(t)})` });
    file.className = "file";
    file.onmousemove = e => {
      tip.textContent = ""; tip.append(make("b", t.path), make("br"), `${bytes(t.bytes)} for ${bytes(t.size)}`);
      for (const [c, name] of causes) if (t.causes[c] >= .5) tip.append(make("br"), `${bytes(t.causes[c])} ${name}`);
      Object.assign(tip.style, { display: "block", left: Math.min(e.clientX + 14, innerWidth - 480) + "px",
        top: Math.min(e.clientY + 14, innerHeight - 160) + "px" });
    };
    file.onmouseleave = () => { tip.style.display = "none"; };
    map.append(file);
    return;
  }
  let name = item.name;
  while (item.children.size === 1 && ![...item.children.values()][0].tile) {
    item = [...item.children.values()][0]; name += "/" + item.name;
  }
  const head = depth > 0 && w > 60 && h > 40 ? 17 : 0;
  if (head) { const folder = make("div", name + "/", box); folder.className = "folder"; map.append(folder); }
  const pad = head ? 2 : 0;
  squarify([...item.children.values()], x + pad, y + head, w - 2 * pad, h - head - pad,
    (child, cx, cy, cw, ch) => node(child, cx, cy, cw, ch, depth + 1));
}
function show() { map.textContent = ""; drawn = 0; node(tree(tiles), 0, 0, map.clientWidth, map.clientHeight, 0); }
show(); addEventListener("resize", show);
const head = make("tr"); for (const name of ["file", "in the package", "its length", ...causes.map(c => c[1])])
  head.append(make("th", name));
put("table", head);
for (const t of tiles.slice(0, 40)) {
  const row = make("tr");
  for (const text of [t.path, bytes(t.bytes), bytes(t.size), ...causes.map(([c]) => t.causes[c] < .5 ? "" : bytes(t.causes[c]))])
    row.append(make("td", text));
  put("table", row);
}
</script>
</html>
"##;
