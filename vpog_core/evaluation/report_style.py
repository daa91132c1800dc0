"""Define the style sheet of reports, for light and dark themes."""

STYLE = """
:root {
  --bg: #fbfbfa; --card: #fff; --ink: #1d2126; --soft: #646b75; --line: #e2e4e8;
  --c1: #1f6feb; --c2: #d9730d; --c3: #2a9d5c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --bg: #14171b; --card: #1c2026; --ink: #e6e9ed; --soft: #98a1ad; --line: #313843;
    --c1: #6aa6ff; --c2: #f0a35e; --c3: #5fd08f;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 26px; margin: 0 0 4px; }
h2 { font-size: 18px; margin: 36px 0 10px; }
h3 { font-size: 15px; margin: 0 0 6px; }
.soft { color: var(--soft); }
.note { border-left: 3px solid var(--c2); padding: 6px 12px; }
.row { display: flex; flex-wrap: wrap; gap: 14px; align-items: flex-start; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; }
.card p { max-width: 56ch; margin: 10px 0 0; }
.big { font-size: 28px; font-weight: 650; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 12px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { color: var(--soft); font-weight: 500; }
figure { margin: 0; width: 224px; }
figure img { width: 224px; height: 224px; border-radius: 8px; display: block; }
figcaption { font-size: 12.5px; color: var(--soft); line-height: 1.35; padding-top: 4px; }
code { font: 13px ui-monospace, monospace; overflow-wrap: anywhere; }
svg { max-width: 100%; height: auto; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
.grid { stroke: var(--line); }
.ideal { stroke: var(--soft); stroke-dasharray: 4 4; }
.dot { fill: var(--c1); fill-opacity: 0.75; }
"""
