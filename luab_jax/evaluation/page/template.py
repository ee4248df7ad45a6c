"""The page around tables and figures: its policy, and its looks in light, in dark and on paper."""

from __future__ import annotations

from string import Template

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

# The colours of runs are those of Okabe and Ito (2008), which colour-blind readers tell apart; yellow is darker here.
_STYLE = """
:root { color-scheme: light dark; --page: #f6f6f4; --card: #fff; --ink: #1d1d1f; --soft: #66666c; --line: #dededa;
  --better: #00734f; --worse: #b3400a; --c0: #55565c; --c1: #0072b2; --c2: #d55e00; --c3: #009e73; --c4: #b25f92;
  --c5: #c48a00; --c6: #3f9bd6; --c7: #8a7f00; }
@media (prefers-color-scheme: dark) {
  :root { --page: #131316; --card: #1d1d21; --ink: #ececf0; --soft: #a0a0a8; --line: #35353b; --better: #4fd0a0;
    --worse: #ff9a66; --c0: #b4b4bc; --c1: #4aa8e8; --c2: #ff8a3d; --c3: #35c79b; --c4: #dd92bf; --c5: #f0b430;
    --c6: #8ccbf5; --c7: #d8cc3c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1360px; padding: 28px 28px 60px; background: var(--page); color: var(--ink);
  font: 14px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 26px; font-weight: 650; letter-spacing: -.02em; margin: 0; }
h2 { font-size: 18px; font-weight: 620; letter-spacing: -.01em; margin: 34px 0 8px; }
h3 { font-size: 14px; font-weight: 600; margin: 8px 0 6px; }
.suites { display: flex; flex-wrap: wrap; gap: 14px; align-items: flex-start; }
.suites section { min-width: 0; max-width: 100%; }
.note, header p { margin: 4px 0; color: var(--soft); max-width: 100ch; overflow-wrap: anywhere; }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 6px 16px 10px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 0 4px 20px; text-align: right; font-weight: 400; vertical-align: top; white-space: nowrap; }
th:first-child { text-align: left; padding-left: 0; position: sticky; left: 0; background: var(--card); }
th { color: var(--soft); } tbody th { color: var(--ink); }
thead th { vertical-align: bottom; } thead small { display: block; }
small { font-size: 11.5px; color: var(--soft); }
.headline th, .headline td { padding-left: 9px; } .headline tbody th { min-width: 150px; }
.headline tbody th, .scores thead th { white-space: normal; max-width: 260px; overflow-wrap: anywhere; }
.scores tbody th { white-space: normal; overflow-wrap: anywhere; }
.headline tbody tr + tr > *, .suite > * { border-top: 1px solid var(--line); }
.group { text-align: left; border-bottom: 1px solid var(--line); color: var(--ink); }
.suite th { font-weight: 600; padding-top: 10px; }
.paper > *, tbody .paper th { color: var(--soft); font-style: italic; }
.headline tbody .paper > * { border-top: 0; }
.change { color: var(--soft); } .headline .change { font-size: 12px; }
.headline .change small { display: block; font-size: 10.5px; }
.better { color: var(--better); } .worse { color: var(--worse); }
b { font-weight: 680; }
.key { display: inline-block; width: 9px; height: 9px; border-radius: 3px; margin-right: 7px; background: var(--c); }
.legend { display: flex; flex-wrap: wrap; gap: 2px 18px; margin: 4px 0 10px; color: var(--soft); }
.legend span { display: inline-flex; gap: 6px; align-items: center; overflow-wrap: anywhere; }
.legend svg { width: 22px; flex: none; }
.figures { display: flex; flex-wrap: wrap; gap: 14px; align-items: flex-start; }
figure { margin: 0; padding: 10px 14px 12px; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; flex: 0 1 auto; min-width: 0; max-width: 100%; }
figcaption { font-size: 12.5px; color: var(--soft); margin-bottom: 4px; max-width: 60ch; overflow-wrap: anywhere; }
figure > svg { display: block; max-width: 100%; height: auto; }
figure:has(.map) { flex: 0 0 auto; width: min-content; min-width: 230px; }
.map svg { display: block; margin: auto; }
details { margin: 8px 0 0; } summary { cursor: pointer; color: var(--soft); }
svg text { font-size: 11px; fill: var(--soft); } svg .middle { text-anchor: middle; } svg .end { text-anchor: end; }
svg .label, svg .value { fill: var(--ink); }
.grid { stroke: var(--line); } .line { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; }
.again .line { stroke-dasharray: 5 3; }
.spread { fill: none; stroke: var(--ink); stroke-width: 1.2; opacity: .65; }
svg rect, svg circle { fill: var(--c); } .again rect { fill-opacity: .55; }
.r0 { --c: var(--c0); } .r1 { --c: var(--c1); } .r2 { --c: var(--c2); } .r3 { --c: var(--c3); }
.r4 { --c: var(--c4); } .r5 { --c: var(--c5); } .r6 { --c: var(--c6); } .r7 { --c: var(--c7); }
.store { position: absolute; width: 0; height: 0; }
.example { width: min-content; padding: 10px 10px 12px; } .example b { color: var(--ink); }
.panels { display: flex; flex-wrap: wrap; gap: 6px; width: max-content; max-width: 100%; }
.panel { width: 124px; font-size: 11.5px; } .panel > p:first-child { font-size: 11px; }
.panel p { margin: 0; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; color: var(--soft); }
.panel > svg { display: block; width: 124px; height: 124px; margin: 2px 0 5px; border-radius: 5px; }
.panel.run > p:first-child { border-left: 6px solid var(--c); padding-left: 4px; border-radius: 2px; }
.under { filter: grayscale(1) contrast(.9); }
svg .halo, svg .box, svg .click, svg .point { fill: none; stroke-linecap: round; }
svg .halo { stroke: #000; stroke-width: 4; stroke-opacity: .55; }
svg .box { stroke: #fff; stroke-width: 1.5; } svg .click { stroke: #ffb000; stroke-width: 2.2; }
svg .point { stroke: #4fe3ff; stroke-width: 2.2; } svg .none { fill: #fff; }
.ramp { width: 70px; height: 9px; border-radius: 3px; }
.panel .answer { position: relative; display: flex; justify-content: space-between; gap: 6px; padding: 0 4px;
  margin-top: 2px; } .answer span { overflow: hidden; text-overflow: ellipsis; }
.answer i { position: absolute; inset: 0 auto 0 0; background: var(--soft); opacity: .2; border-radius: 3px; }
.answer.right i { background: var(--better); opacity: .35; } .answer.right { color: var(--ink); }
.panel .first { color: var(--ink); font-weight: 600; }
@page { size: A4 landscape; margin: 10mm; }
@media print { body { max-width: none; padding: 0; print-color-adjust: exact; zoom: .78; }
  figure, .wide { break-inside: avoid; } h2, h3 { break-after: avoid; } }
"""

PAGE = Template(
    f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>luab_jax: results</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>Results</h1>
<p>$num_results, $num_runs</p>
</header>
$sections
</body>
</html>
"""
)
"""Placeholders: num_results, num_runs, sections; all escaped before."""
