"""The page's style sheet: light and dark by the reader's preference, one column on a phone."""

CSS = """
:root {
  color-scheme: light dark;
  --bg: #fbfbfa; --card: #ffffff; --ink: #1c2024; --soft: #5b646e; --line: #dfe3e6; --hover: #f1f4f6;
  --ours: #1f5fbf; --published: #76808a; --changed: #a05a00;
  --reproduced: #18713f; --above: #1f5fbf; --below: #b3261e; --inconclusive: #8a5a00; --partial: #6b46b8;
  --untested: #69727b; --unpublished: #69727b; --not-judged: #69727b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --bg: #14171a; --card: #1c2024; --ink: #e8eaed; --soft: #a3adb7; --line: #333a41; --hover: #262c32;
    --ours: #7db1ff; --published: #9aa5b0; --changed: #e5a84b;
    --reproduced: #5fcf8e; --above: #7db1ff; --below: #ff8f86; --inconclusive: #e5b455; --partial: #b9a0ff;
    --untested: #9aa5b0; --unpublished: #9aa5b0; --not-judged: #9aa5b0;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main, header, footer { max-width: 1200px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 28px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 6px; }
h2 { font-size: 1.35rem; margin: 44px 0 4px; padding-top: 14px; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 26px 0 8px; }
p { margin: 6px 0; max-width: 78ch; }
a { color: var(--ours); }
code { font: 0.86em ui-monospace, monospace; overflow-wrap: anywhere; }
.soft { color: var(--soft); }
.small { font-size: 0.87rem; }
.tiles { display: flex; flex-wrap: wrap; gap: 10px; margin: 18px 0 0; padding: 0; list-style: none; }
.tiles li { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 8px 14px; }
.tiles b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.papers { display: grid; gap: 8px; margin: 14px 0; }
.paper { display: grid; grid-template-columns: 150px 1fr; gap: 10px; align-items: start; padding: 8px 0;
  border-bottom: 1px solid var(--line); }
.suites { display: flex; flex-wrap: wrap; gap: 8px; }
.suite { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 5px 10px;
  min-width: 150px; flex: 0 1 auto; color: inherit; text-decoration: none; font-size: 0.85rem; }
.suite:hover { background: var(--hover); }
.pictures { display: flex; flex-wrap: wrap; gap: 16px; }
.picture { margin: 0; max-width: 100%; } .picture img { max-width: 100%; image-rendering: pixelated; }
.bar { display: flex; height: 6px; border-radius: 3px; overflow: hidden; background: var(--line); margin-top: 4px; }
.bar i { display: block; }
i.reproduced { background: var(--reproduced); } i.above { background: var(--above); }
i.below { background: var(--below); } i.inconclusive { background: var(--inconclusive); }
i.partial { background: var(--partial); } i.unpublished, i.not-judged { background: var(--untested); }
.pill { display: inline-block; border: 1px solid currentColor; border-radius: 999px; padding: 0 9px; font-size: 0.84rem;
  white-space: nowrap; }
.pill.reproduced { color: var(--reproduced); } .pill.above { color: var(--above); } .pill.below { color: var(--below); }
.pill.inconclusive { color: var(--inconclusive); } .pill.partial { color: var(--partial); }
.pill.untested, .pill.unpublished, .pill.not-judged { color: var(--untested); }
.pill.changed { border-style: dashed; }
.filters { position: sticky; top: 0; z-index: 2; background: var(--bg); display: flex; flex-wrap: wrap; gap: 10px;
  align-items: center; padding: 10px 0; border-bottom: 1px solid var(--line); margin-top: 20px; }
.filters input[type=search], .filters select { font: inherit; color: inherit; background: var(--card);
  border: 1px solid var(--line); border-radius: 6px; padding: 5px 9px; min-width: 0; }
.filters input[type=search] { flex: 1 1 180px; max-width: 320px; }
table { margin: 8px 0 14px; width: 100%; border-collapse: collapse; font-size: 0.9rem; }
th { text-align: left; font-weight: 600; border-bottom: 1px solid var(--line); padding: 0; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 6px 10px 6px 0; cursor: pointer;
  text-align: left; }
th button::after { content: " \\2195"; color: var(--soft); }
th[aria-sort=ascending] button::after { content: " \\2191"; color: inherit; }
th[aria-sort=descending] button::after { content: " \\2193"; color: inherit; }
th.plain { padding: 6px 10px 6px 0; }
td { border-bottom: 1px solid var(--line); padding: 5px 10px 5px 0; vertical-align: top;
  font-variant-numeric: tabular-nums; }
tr.also td { color: var(--soft); }
tbody tr:hover { background: var(--hover); }
.range { white-space: nowrap; }
h4 { font-size: 0.95rem; margin: 18px 0 2px; }
td details summary { cursor: pointer; color: var(--ours); white-space: nowrap; }
td details[open] { min-width: 260px; }
td details p { overflow-wrap: anywhere; }
button.copy { font: inherit; font-size: 0.8rem; color: inherit; background: var(--card); border: 1px solid var(--line);
  border-radius: 5px; padding: 0 8px; cursor: pointer; margin-left: 4px; }
button:focus-visible, select:focus-visible, input:focus-visible, summary:focus-visible, a:focus-visible {
  outline: 2px solid var(--ours); outline-offset: 2px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 280px), 1fr)); gap: 12px;
  margin: 10px 0; }
.charts.large { grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)); }
.charts.wide { grid-template-columns: minmax(280px, 560px); }
.legend.key i { height: 8px; }
.charts figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 8px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 6px 0; font-size: 0.85rem; color: var(--soft); }
.legend i { display: inline-block; width: 18px; height: 3px; border-radius: 2px; vertical-align: middle;
  margin-right: 6px; }
.legend .ours { background: var(--ours); } .legend .published { background: var(--published); }
.legend .changed { background: var(--changed); }
svg { display: block; width: 100%; height: auto; }
svg.forest { width: 150px; }
svg text { fill: var(--soft); font: 10px system-ui, sans-serif; }
svg text.title { fill: var(--ink); font-size: 12px; font-weight: 600; }
svg .grid { stroke: var(--line); stroke-width: 0.7; } svg .axis { stroke: var(--soft); stroke-width: 1; }
svg .line { fill: none; stroke-width: 1.8; }
svg .ours { stroke: var(--ours); } svg .published { stroke: var(--published); } svg .changed { stroke: var(--changed); }
svg .dot.ours, svg .band.ours { fill: var(--ours); } svg .dot.published, svg .band.published { fill: var(--published); }
svg .dot.changed, svg .band.changed { fill: var(--changed); }
svg .s1 { stroke: var(--ours); } svg .s2 { stroke: var(--changed); } svg .s3 { stroke: var(--reproduced); }
svg .s4 { stroke: var(--partial); } svg .s5 { stroke: var(--below); } svg .s6 { stroke: var(--published); }
svg .band.s1, svg .dot.s1 { fill: var(--ours); } svg .band.s2, svg .dot.s2 { fill: var(--changed); }
svg .band.s3, svg .dot.s3 { fill: var(--reproduced); } svg .band.s4, svg .dot.s4 { fill: var(--partial); }
svg .band.s5, svg .dot.s5 { fill: var(--below); } svg .band.s6, svg .dot.s6 { fill: var(--published); }
i.s1 { background: var(--ours); } i.s2 { background: var(--changed); } i.s3 { background: var(--reproduced); }
i.s4 { background: var(--partial); } i.s5 { background: var(--below); } i.s6 { background: var(--published); }
svg .dot { stroke: none; } svg .band { opacity: 0.2; stroke: none; }
svg .margin { fill: var(--published); opacity: 0.16; }
.empty { border: 1px dashed var(--line); border-radius: 8px; padding: 16px; color: var(--soft); }
footer { margin-top: 50px; padding-bottom: 40px; color: var(--soft); font-size: 0.87rem; }
[hidden] { display: none !important; }
@media (max-width: 760px) {
  main, header, footer { padding-left: 14px; padding-right: 14px; }
  .paper { grid-template-columns: 1fr; gap: 4px; }
  .filters { position: static; }
  table.cards thead { display: none; }
  table.cards, table.cards tbody, table.cards tr, table.cards td { display: block; width: 100%; }
  table.cards tr { background: var(--card); border: 1px solid var(--line); border-radius: 8px; margin: 8px 0;
    padding: 6px 12px; }
  table.cards td { border: 0; padding: 2px 0; display: grid; grid-template-columns: 7.2em 1fr; gap: 8px; }
  table.cards td > div { min-width: 0; overflow-wrap: anywhere; }
  .range { white-space: normal; }
  .suite { max-width: 100%; }
  table.cards td::before { content: attr(data-label); color: var(--soft); }
  table.cards td.none { display: none; }
  table.cards td:first-child { font-weight: 600; }
  td details[open] { min-width: 0; }
}
@media print { .filters, button.copy { display: none; } }
"""
