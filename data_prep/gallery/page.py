"""The page around the images of the gallery: its policy, its looks in light and dark, and the filter."""

from __future__ import annotations

from string import Template

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; --page: #f6f6f4; --card: #fff; --ink: #1d1d1f; --soft: #6b6b70; --line: #dededa;
  --click: #ffb000; --hover: #4c9be8; }
@media (prefers-color-scheme: dark) {
  :root { --page: #131316; --card: #1d1d21; --ink: #ececf0; --soft: #9a9aa3; --line: #333338; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1720px; padding: 28px 28px 60px; background: var(--page); color: var(--ink);
  font: 14px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 26px; font-weight: 650; letter-spacing: -.02em; margin: 0; }
header p { margin: 2px 0 14px; color: var(--soft); }
details { margin: 4px 0; } summary { cursor: pointer; font-weight: 550; }
table { border-collapse: collapse; margin: 6px 0 12px 16px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 2px 18px 2px 0; font-weight: 400; vertical-align: top; }
th { color: var(--soft); white-space: nowrap; }
nav { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: 8px 18px; align-items: center;
  margin: 14px -28px 18px; padding: 10px 28px; background: var(--page); border-bottom: 1px solid var(--line); }
nav label { display: inline-flex; gap: 6px; align-items: center; white-space: nowrap; }
select { font: inherit; max-width: 220px; padding: 3px 6px; border: 1px solid var(--line); border-radius: 7px;
  background: var(--card); color: inherit; }
.legend { display: inline-flex; gap: 7px; align-items: center; color: var(--soft); }
.legend span { width: 90px; height: 6px; border-radius: 3px;
  background: linear-gradient(90deg, #0d0887, #6a00a8, #b12a90, #e16462, #fca636, #f0f921); }
.legend svg { width: 16px; height: 16px; overflow: visible; }
main { display: grid; gap: 18px; grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); align-items: start; }
.card { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 12px; overflow: hidden; }
.card[hidden] { display: none; }
.card > svg { display: block; width: 100%; }
.card > svg:first-child { max-height: 420px; background: #0002; cursor: zoom-in; }
.card.large { grid-column: 1 / -1; } .card.large > svg:first-child { max-height: 86vh; cursor: zoom-out; }
figcaption { display: flex; flex-direction: column; gap: 2px; padding: 8px 12px 11px; overflow-wrap: anywhere; }
figcaption b { font-weight: 600; } .file { color: var(--soft); font-size: 12px; }
.chips { display: flex; flex-wrap: wrap; gap: 4px; margin-top: 4px; }
.chips i { font-style: normal; font-size: 11.5px; padding: 1px 8px; border-radius: 9px; background: var(--page);
  border: 1px solid var(--line); }
svg rect, svg polyline, svg path { fill: none; stroke-linejoin: round; stroke-linecap: round; }
.boxes rect { stroke-width: 2; } .boxes .rim { stroke: #000a; stroke-width: 4; }
.masks path { fill-opacity: .22; stroke-width: 1.4; }
.trace polyline { stroke-width: 2.6; } .trace .rim { stroke: #fffc; stroke-width: 4.8; }
.trace .dot { fill: #6a00a8; stroke: #fff; stroke-width: 1.2; }
.last { r: 6px; fill: var(--click); stroke: #000; stroke-width: 1.6; }
.first { r: 6px; fill: none; stroke: var(--click); stroke-width: 2.6; filter: drop-shadow(0 0 1px #000); }
.between { r: 3px; fill: var(--click); stroke: #000; }
.icons .rim { stroke: #000b; stroke-width: 3.6; } .icons .way { stroke-width: 1.8; stroke-dasharray: 4 3.4; }
.icons .icon { r: 6px; stroke: #fff; stroke-width: 1.8; filter: drop-shadow(0 0 1.5px #000); }
.icons .was { r: 3.4px; fill: #0008; stroke-width: 1.6; }
.icons .gone { stroke-width: 3; filter: drop-shadow(0 0 1px #000) drop-shadow(0 0 1px #000); }
.icons text, .broken { font: 600 12px system-ui, sans-serif; fill: #fff; stroke: #000c; stroke-width: 3;
  paint-order: stroke; }
.times { padding: 4px 12px 0; } .times line { stroke: var(--line); stroke-width: 2; }
.times rect { fill: var(--hover); } .times path { stroke-width: 3; }
.times text { font-size: 10.5px; fill: var(--soft); } .times .last, .times .first { r: 4px; }
body:has(#trace:not(:checked)) .trace, body:has(#clicks:not(:checked)) .clicks,
body:has(#boxes:not(:checked)) .boxes, body:has(#masks:not(:checked)) .masks,
body:has(#icons:not(:checked)) .icons, body:has(#times:not(:checked)) .times { display: none; }
@media print { nav { display: none; } .card { break-inside: avoid; } }
"""

_SCRIPT = """
const at = id => document.getElementById(id), cards = [...document.querySelectorAll('.card')];
function show() {
  let shown = 0;
  for (const card of cards) {
    const keep = (!at('class').value || card.dataset.classes.split(' ').includes(at('class').value))
      && (!at('split').value || card.dataset.split === at('split').value)
      && (!at('with').checked || card.dataset.by === '1');
    card.hidden = !keep;
    shown += keep;
  }
  at('count').textContent = shown;
}
for (const id of ['class', 'split', 'with']) at(id).addEventListener('change', show);
for (const card of cards) card.querySelector('svg').addEventListener('click', () => card.classList.toggle('large'));
show();
"""

LAYERS = ("trace", "clicks", "boxes", "masks", "icons", "times")
"""What can be hidden, by the class of its groups."""


def layer_boxes(cards: str) -> str:
    """A box to tick for every layer that some image has."""
    there = [name for name in LAYERS if f'class="{name}"' in cards]
    return "".join(f'<label><input type="checkbox" id="{name}" checked> {name}</label>' for name in there)


PAGE = Template(
    f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>$title: annotation byproducts</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>$title</h1>
<p>$num_cards of $num_images images of $directory, drawn with seed $seed</p>
$reports
</header>
<nav>
<label>split <select id="split"><option value="">all</option>$splits</select></label>
<label>class <select id="class"><option value="">all</option>$classes</select></label>
<label><input type="checkbox" id="with"> with byproducts</label>
$layers
<span class="legend">earlier <span></span> later</span>
<span class="legend"><svg viewBox="-8 -8 16 16"><circle class="first"/></svg>first
 <svg viewBox="-8 -8 16 16"><circle class="last"/></svg>last click</span>
<span class="legend"><b id="count">$num_cards</b> shown</span>
</nav>
<main>$cards</main>
<script>{_SCRIPT}</script>
</body>
</html>
"""
)
"""Placeholders: title, directory, num_cards, num_images, seed, reports, splits, classes, layers, cards; all
escaped before."""
