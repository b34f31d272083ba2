"""`repro report`: complete files, and a page that works in a real browser without network."""

import html.parser
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from repro import cli
from repro.tracker import published, records
from repro.tracker.report import charts

CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome")) if p), None)


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    code = cli.main(list(arguments))
    out = capsys.readouterr()
    return code, out.out, out.err


def fill(sample) -> None:
    """Some of everything: full, weaker, short, changed, two seeds, another paper."""
    table = published.load("dreamerv3")
    for task in ("walker_walk", "cheetah_run", "cup_catch", "reacher_easy"):
        sample.save(table.per_seed("dmc_proprio", task, "dreamerv3"), task=task)
    sample.save([30.0, 35.0, 32.0, 31.0], task="walker_run")
    sample.save([400.0, 410.0, 420.0], used=100_000, task="walker_stand")
    sample.save([500.0, 510.0], deviations={"agent.size": {"paper": "200M", "used": "<1M & more>"}})
    iris = published.load("iris")
    sample.save(
        iris.per_seed("atari100k", "pong", "iris"), paper="iris", suite="atari100k", task="pong", budget=100_000
    )


class Balanced(html.parser.HTMLParser):
    """Fails on tags that are not closed in order; collects links and attributes that would need a network."""

    VOID = {"meta", "img", "link", "input", "br", "line", "circle", "rect", "polygon", "polyline"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.external: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "href") and tag != "a" and not value.startswith("data:"):
                self.external.append(value)
            if name == "href" and tag == "a":
                self.links.append(value)
            if name == "id":
                self.ids.append(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag, tag


def parse(page: str) -> Balanced:
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    return parser


@pytest.mark.parametrize("filled", [False, True])
def test_the_page_is_well_formed_and_self_contained(sample, capsys, filled):
    if filled:
        fill(sample)
    code, out, _ = run(capsys, "report")
    assert code == 0 and "report.html" in out
    page = (sample.results / "report.html").read_text()
    found = parse(page)
    assert found.external == [] and "@import" not in page and "url(" not in page
    assert len(found.ids) == len(set(found.ids))
    for link in found.links:
        if link.startswith("#"):
            assert link[1:] in found.ids
        elif not link.startswith("http"):
            assert (sample.results / link).is_file(), link
    for paper in published.papers():
        assert published.load(paper).facts["name"].replace("&", "&amp;") in page
    if filled:
        assert "&lt;1M &amp; more&gt;" in page and "<1M" not in page  # what records say is text, never markup
        assert "repro reproduce dreamerv3 --task dmc_proprio/walker_walk" in page
        assert page.count("<svg") > 10 and "Performance profile over 5 tasks" in page


def test_pictures_of_records_stand_in_the_page(sample, capsys):
    fill(sample)
    path = sample.save([1.0, 2.0], task="walker_run", extra={"pictures": ["<real> & dreamed", "too large", "lost"]})
    for number, (suffix, size) in enumerate([(".png", 300), (".gif", 1_000_001)]):
        picture = records.picture_path(sample.results, "dreamerv3", path.stem, number, suffix)
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(bytes(size))
    assert run(capsys, "report")[0] == 0
    page = (sample.results / "report.html").read_text()
    parse(page)
    sources = re.findall(r"<img src='([^']+)'", page)
    assert len(sources) == 2 and sources[0].startswith("data:image/png;base64,AAAA")
    assert (sample.results / sources[1]).stat().st_size == 1_000_001
    assert "walker_run: &lt;real&gt; &amp; dreamed" in page and "lost" not in page


def test_markdown_names_numbers_records_and_commands(sample, capsys):
    fill(sample)
    run(capsys, "report")
    text = (sample.results / "REPORT.md").read_text()
    for part in (
        "## DreamerV3: DeepMind Control, proprioceptive",
        "| walker_run |",
        "below",
        "partial: ",
        "changed settings",
    ):
        assert part in text, part
    assert "repro reproduce dreamerv3 --task dmc_proprio/walker_walk --preset paper --seeds 5" in text
    links = re.findall(r"\]\((runs/[^)]+)\)", text)
    assert len(links) == 8 and all((sample.results / link).is_file() for link in links)
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")


def test_the_report_goes_where_it_is_asked_and_links_back(sample, capsys, tmp_path):
    fill(sample)
    out = tmp_path / "site" / "deep"
    assert run(capsys, "report", "--out", str(out))[0] == 0
    found = parse((out / "report.html").read_text())
    records = [link for link in found.links if link.endswith(".json")]
    assert len(records) == 8 and all((out / link).is_file() for link in records)
    assert sorted(p.name for p in out.iterdir()) == ["REPORT.md", "report.html", "verdicts.json"]


def test_the_same_records_give_the_same_report(sample, capsys):
    fill(sample)
    run(capsys, "report")
    names = ("REPORT.md", "report.html", "verdicts.json")
    first = {name: (sample.results / name).read_bytes() for name in names}
    run(capsys, "report")
    assert first == {name: (sample.results / name).read_bytes() for name in names}
    assert run(capsys, "verify")[0] == 0
    sample.save([1.0, 2.0, 3.0], task="hopper_hop")
    code, out, _ = run(capsys, "verify")
    assert code == 0 and "does not show yet" in out
    kept = json.loads((sample.results / "verdicts.json").read_text())
    kept["verdicts"][0]["verdict"] = "above"
    (sample.results / "verdicts.json").write_text(json.dumps(kept))
    code, out, _ = run(capsys, "verify")
    assert code == 1 and "reported above" in out


def test_a_folder_that_cannot_be_written_is_one_line(results, capsys):
    (results / "file").write_text("")
    code, _, err = run(capsys, "report", "--out", str(results / "file" / "inside"))
    assert code == 2 and "cannot write the report" in err


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-21, 21), (0, 1e9), (0.001, 0.0012), (5, 5)])
def test_ticks_are_round_and_inside(low, high):
    found = charts.ticks(low, high)
    assert found and all(low - 1e-9 <= t <= high + 1e-9 for t in found) and len(found) <= 7


CHECK = """
<script>
(function () {
  var report = [], rows = function () { return document.querySelectorAll('table.rows tbody tr:not([hidden])'); };
  function check(name, ok) { report.push((ok ? 'ok ' : 'FAIL ') + name); }
  function set(id, value) {
    var control = document.getElementById(id);
    if (control.type === 'checkbox') { control.checked = value; } else { control.value = value; }
    control.dispatchEvent(new Event('input'));
  }
  check('recorded rows only at first', rows().length === 8);
  set('recorded', false);
  check('all rows', rows().length > 500);
  set('search', 'walker_run');
  check('text filter', Array.from(rows()).every(function (r) { return r.textContent.indexOf('walker_run') >= 0; }));
  check('text filter keeps some', rows().length >= 2);
  set('search', ''); set('verdict', 'below');
  check('verdict filter', rows().length === 1 && rows()[0].textContent.indexOf('walker_run') >= 0);
  check('count shown', document.getElementById('shown').textContent === '1 row');
  set('verdict', ''); set('paper', 'iris');
  check('paper filter', rows().length === 26);
  check('other papers hidden', document.getElementById('dreamerv3').closest('section').hidden);
  set('paper', 'dreamerv3');
  var table = document.querySelector('#dreamerv3-dmc_proprio table.rows');
  var header = table.tHead.rows[0].cells[1];
  function values() {
    return Array.from(table.tBodies[0].rows).map(function (r) { return Number(r.cells[1].getAttribute('data-sort')); });
  }
  function ordered(list, sign) {
    return list.every(function (v, i) { return i === 0 || sign * (v - list[i - 1]) >= 0; });
  }
  header.querySelector('button').click();
  check('sorts up', ordered(values(), 1) && header.getAttribute('aria-sort') === 'ascending');
  header.querySelector('button').click();
  check('sorts down', ordered(values(), -1) && header.getAttribute('aria-sort') === 'descending');
  var seeds = table.tHead.rows[0].cells[4];
  seeds.querySelector('button').click(); seeds.querySelector('button').click();
  var filled = Array.from(table.tBodies[0].rows).map(function (r) {
    return r.cells[4].getAttribute('data-sort') !== '';
  });
  check('empty cells last', filled.lastIndexOf(true) < filled.indexOf(false));
  set('recorded', true); set('paper', '');
  document.querySelector("a.suite[data-recorded='0']").click();
  check('a chip without records shows its rows', !document.getElementById('recorded').checked);
  document.querySelectorAll('details').forEach(function (d) { d.open = true; });
  var wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  check('nothing sticks out at ' + document.documentElement.clientWidth + ' px by ' + wide, wide <= 0);
  check('charts have a size', Array.from(document.querySelectorAll('#dreamerv3-dmc_proprio svg.chart')).every(
    function (s) { return s.getBoundingClientRect().width > 100; }));
  var style = getComputedStyle(document.body), dark = matchMedia('(prefers-color-scheme: dark)').matches;
  function light(color) { var c = color.match(/[\\d.]+/g).map(Number); return 0.3 * c[0] + 0.6 * c[1] + 0.1 * c[2]; }
  check('contrast', dark ? light(style.color) - light(style.backgroundColor) > 150
    : light(style.backgroundColor) - light(style.color) > 150);
  report.push(dark ? 'dark' : 'light');
  (window.errors || []).forEach(function (e) { report.push('FAIL ' + e); });
  document.body.setAttribute('data-check', report.join(';'));
  try { parent.document.body.setAttribute('data-check', report.join(';')); } catch (e) { /* not in a frame */ }
})();
</script>
"""
CATCH = "<script>window.errors=[];window.onerror=function(m){window.errors.push(m)};</script>"


def browse(folder: Path, page: str, width: int, dark: bool) -> tuple[str, str]:
    """What the page's checks report in Chromium at that width (inside a frame: windows have a smallest width), and
    Chromium's log with the page's console."""
    (folder / "checked.html").write_text(page.replace("<head>", f"<head>{CATCH}").replace("</body>", f"{CHECK}</body>"))
    (folder / "frame.html").write_text(
        f"<body style='margin:0'><iframe src='checked.html' style='width:{width}px;height:900px;border:0'></iframe>"
    )
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
            "--allow-file-access-from-files", "--enable-logging=stderr", "--log-level=0", "--virtual-time-budget=8000",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--window-size=1400,1000", "--dump-dom",
            f"file://{folder / 'frame.html'}",
        ],
        capture_output=True, text=True, timeout=120, env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    match = re.search(r'data-check="([^"]*)"', done.stdout)
    assert match, done.stderr[-2000:]
    return html.unescape(match[1]), done.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
def test_sorting_filtering_and_layout_in_chromium(sample, capsys, tmp_path, width, dark):
    fill(sample)
    run(capsys, "report")
    report, log = browse(tmp_path, (sample.results / "report.html").read_text(), width, dark)
    assert "FAIL" not in report, report
    assert report.count("ok ") == 15 and report.endswith("dark" if dark else "light")
    console = [line for line in log.splitlines() if "CONSOLE" in line]
    assert console == []


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
def test_the_browser_check_can_fail(sample, capsys, tmp_path):
    fill(sample)
    run(capsys, "report")
    broken = (sample.results / "report.html").read_text().replace("row.hidden = !fits;", "console.error('broken');")
    report, log = browse(tmp_path, broken, 1280, False)
    assert "FAIL text filter" in report and "CONSOLE" in log


def test_figures_of_a_record_are_drawn(sample, capsys):
    line = {
        "name": "n = <5>",
        "x": [1.0, 2.0, 3.0],
        "y": [800.0, 150.0, 60.0],
        "low": [700, 100, 50],
        "high": [900, 200, 70],
    }
    figure = {
        "title": "Figure 8.2",
        "x_label": "episode",
        "y_label": "steps",
        "series": [line, {**line, "name": "n = 0"}],
    }
    sample.save([900.0, 905.0, 910.0], extra={"figures": [figure]})
    run(capsys, "report")
    page = (sample.results / "report.html").read_text()
    parse(page)
    assert "Figure 8.2" in page and "n = &lt;5&gt;" in page and page.count('class="band s') == 2


def test_verdicts_are_kept_for_verify(sample, capsys):
    fill(sample)
    run(capsys, "report")
    kept = json.loads((sample.results / "verdicts.json").read_text())["verdicts"]
    assert {row["verdict"] for row in kept} >= {"reproduced", "below"}
    assert all(row["records"] or row["row"].count("/") == 2 for row in kept)
