"""Reports: the verdict first, nothing from outside, the same bytes each time, and text that cannot turn into markup."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import attrs
import numpy as np
import pytest

from tpu2gpu.reporting.numbers import milliseconds, percent, ratio, significant, size
from tpu2gpu.reporting.plots import batch_sweep, latency_boxes, latency_ecdf, ratio_intervals
from tpu2gpu.reporting.report import Drawing, Facts, Figures, Link, Report, Row, Table, to_html, to_markdown
from tpu2gpu.reporting.result_lines import columns, describe_result, label_and_text

VOID = {"meta", "br", "hr", "img", "link", "input"}


def latencies() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"reference": rng.lognormal(1, 0.2, 3000), "candidate <1>": rng.lognormal(0, 0.3, 3000)}


def report() -> Report:
    return Report(
        title="new <b>model</b> against old_model",
        verdict="REFUSED",
        tone="bad",
        lead=["What the verdict rests on."],
        reasons=["too slow | by far"],
        warnings=["a *noisy* run"],
        blocks=[
            Table(
                "Checks",
                ["check", "found", "verdict"],
                [Row(["a|b", "1 & 2", "fail"], "bad")],
                numeric=False,
                badge_column=2,
            ),
            Figures(
                "Latency",
                [Drawing(latency_ecdf(latencies()), "Shares"), Drawing(latency_boxes(latencies()), "Spread")],
                "How to read it.",
            ),
            Facts("Machine", [("CPU", "a <script>alert(1)</script> processor")]),
        ],
        footer="the end",
    )


class Balance(HTMLParser):
    """Collects what is not well-formed, the links and the ids."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def parsed(text: str) -> Balance:
    balance = Balance()
    balance.feed(text)
    return balance


def test_the_html_is_well_formed_with_ids_of_its_own():
    balance = parsed(to_html(report()))
    assert balance.wrong == []
    assert balance.open == []
    assert len(balance.ids) == len(set(balance.ids))


def test_the_html_asks_for_nothing_from_outside():
    text = to_html(report())
    balance = parsed(text)
    assert not balance.tags & {"script", "link", "img", "iframe", "object"}
    assert all(link.startswith("#") for link in balance.links)
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    assert "@import" not in text
    assert set(re.findall(r"https?://[^\s\"<]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_text_stays_text():
    html = to_html(report())
    assert "<b>model</b>" not in html
    assert "<script>" not in html
    assert "candidate &lt;1&gt;" in html


def test_the_verdict_comes_first():
    html = to_html(report())
    body = html[html.index("<body>") :]
    places = [
        body.index(text) for text in ("REFUSED", "What the verdict rests on.", "too slow", "noisy", "Checks", "Machine")
    ]
    assert places == sorted(places)
    assert to_markdown(report()).splitlines()[:5] == [
        "# new &lt;b>model&lt;/b> against old\\_model",
        "",
        "**REFUSED**",
        "",
        "What the verdict rests on.",
    ]


def test_the_same_report_has_the_same_bytes():
    assert to_html(report()) == to_html(report())
    assert to_markdown(report()) == to_markdown(report())


def test_figures_stand_to_the_right_and_a_long_text_moves_none_of_them_away():
    assert columns([("size", "9 B"), ("weights", "1.5 KiB")]) == ["size         9 B", "weights  1.5 KiB"]
    long = "inputs derived from the graph, since no examples were given"
    assert columns([("size", "9 B"), ("seen on", long)]) == ["size     9 B", f"seen on  {long}"]


def test_a_size_or_time_of_nothing_is_left_out_of_a_result():
    @attrs.frozen
    class Result:
        target: str = ""
        steps: int = 0
        onnx_size_bytes: int = 2048
        engine_size_bytes: int = 0
        build_s: float = 0.0

    assert describe_result(Result())[1:] == ["  steps             0", "  onnx size  2.00 KiB"]


def test_markdown_tables_keep_their_columns():
    rows = [line for line in to_markdown(report()).splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {4}


@pytest.mark.parametrize("draw", [latency_ecdf, latency_boxes])
def test_drawings_are_svg_that_follows_the_page(draw):
    svg = draw(latencies(), limit_ms=5.0)
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert "viewBox" in root.attrib
    assert "width" not in root.attrib
    assert "var(--ink)" in svg
    assert "var(--series-1)" in svg
    assert not re.search(r"#0102\w\w", svg)
    assert "DejaVu" not in svg
    assert len(svg) < 100_000


@pytest.mark.parametrize("draw", [latency_ecdf, latency_boxes])
def test_drawings_of_few_equal_or_far_apart_latencies(draw):
    for values in ([1.0], [2.0, 2.0], [0.01, 10_000.0]):
        assert draw({"reference": np.asarray(values)}).startswith("<svg")


def test_a_budget_far_off_is_not_drawn():
    assert "limit of p99" in latency_ecdf({"a": np.ones(9)}, limit_ms=2.0)
    assert "limit of p95" in latency_ecdf({"a": np.ones(9)}, 2.0, "p95")
    assert "limit of p99" not in latency_ecdf({"a": np.ones(9)}, limit_ms=500.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.5, "1234"),
        (123.45, "123"),
        (12.345, "12.3"),
        (1.2345, "1.23"),
        (0.012345, "0.0123"),
        (0.00012345, "1.23e-04"),
        (-0.5, "-0.500"),
        (0, "0"),
        (float("inf"), "∞"),
        (float("nan"), "NaN"),
        (None, "–"),
    ],
)
def test_numbers_have_the_digits_that_mean_something(value, text):
    assert significant(value) == text


def test_units():
    assert milliseconds(1.2345) == "1.23 ms"
    assert [percent(it) for it in (0.98765, 0.9999925, 1.0)] == ["98.77 %", "99.9992 %", "100.00 %"]
    assert label_and_text("core_coverage", 0.99979) == ("core coverage", "99.98 %")
    assert ratio(1.5) == "1.50×"
    assert [size(value) for value in (12, 2048, 3 << 20, 5 << 30, None)] == [
        "12 B",
        "2.00 KiB",
        "3.00 MiB",
        "5.00 GiB",
        "–",
    ]


@pytest.mark.parametrize(
    ("drawn", "texts"),
    [
        (ratio_intervals({"candidate": (1.5, 1.4, 1.6)}, 1.2), {"candidate", "times as fast"}),
        (ratio_intervals({"candidate 1": (9.0, 7.0, 11.0), "candidate 2": (0.9, 0.8, 1.0)}), {"candidate 2", "5"}),
        (batch_sweep({"reference": {1: 10.0, 8: 60.0}, "candidate": {1: 20.0, 8: 150.0}}), {"reference", "8"}),
    ],
)
def test_ratios_and_batch_sizes_are_drawn_as_well_formed_svg_with_their_labels(drawn, texts):
    found = {"".join(element.itertext()).strip() for element in ElementTree.fromstring(drawn).iter()}
    assert texts <= found


def compared(models: int) -> Report:
    """A report on models whose figures and names are as long as they come."""
    labels = [f"candidate {number}: float32-tensorrt_rtx" for number in range(1, models)]
    figures = Table(
        "Figures",
        ["", "reference: imported", *labels],
        [
            Row(["speed-up over the reference (p50)", *["0.0484 ms (0.0476–0.0493)"] * models]),
            Row(["run by", *["ONNX Runtime on CPU:0"] * models]),
        ],
    )
    outputs = Table(
        "Outputs",
        "output relative threshold largest mean cosine top-1 top-5 NaN,Inf worst_at".split(),
        [Row(["probabilities", *["1.01e-06"] * 5, "100.00 %", "99.97 %", "0", "428, [9]"])],
    )
    words = ["max_accuracy_drop_from_incumbent", "reference", "100.00 %", "every request", "not applicable"]
    checks = Table(
        "Checks",
        ["check", "against", "value", "threshold", "verdict", "because"],
        [Row([*words, "output probabilities has its largest score at the same class in 597 of 597 examples"])],
        numeric=False,
        badge_column=4,
    )
    return Report("a", "BLESSED", "good", [], blocks=[figures, outputs, checks])


def test_nothing_on_a_page_is_wider_than_the_screen(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("neither chromium nor google-chrome is installed (apt-get install chromium)")
    pages = [(models, width) for models in (2, 4, 7) for width in (1280, 1024, 768, 390)]
    frames = "".join(
        f'<iframe style="width: {width}px" srcdoc="{html.escape(to_html(compared(models)))}"></iframe>'
        for models, width in pages
    )
    measure = """
        const wide = (frame) => [...frame.contentDocument.querySelectorAll("html, .scroll")]
            .some((box) => box.scrollWidth > box.clientWidth);
        const folded = (frame) => frame.contentWindow.getComputedStyle(
            frame.contentDocument.querySelector("thead")).display === "none";
        onload = () => { document.title = JSON.stringify(
            [...document.querySelectorAll("iframe")].map((frame) => [wide(frame), folded(frame)])); };
    """
    (tmp_path / "pages.html").write_text(f"<title></title><script>{measure}</script>{frames}", encoding="utf-8")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [browser, *flags, "--dump-dom", (tmp_path / "pages.html").as_uri()],
        capture_output=True,
        text=True,
        check=True,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title, done.stderr
    found = dict(zip(pages, json.loads(title[1]), strict=True))
    assert not [page for page, (is_wide, _) in found.items() if is_wide]
    assert [page for page, (_, is_folded) in found.items() if not is_folded] == [
        (2, 1280),
        (2, 1024),
        (2, 768),
        (4, 1280),
    ]


HOSTILE_NAME = "![y](http://tracker/y.png) [z]: javascript:1 \x1b[2J\u202e"


def test_a_name_becomes_no_link_no_image_and_moves_no_cursor() -> None:
    told = Report(HOSTILE_NAME, "REFUSED", "bad", [], [HOSTILE_NAME], blocks=[Facts("x", [("y", HOSTILE_NAME)])])
    text, page = to_markdown(told), to_html(told)
    assert not re.search(r"\]([(:])", text)
    assert not re.search("[\x1b\u202e]", text + page)
    assert "[?, 8]" in to_markdown(Report("x", "DONE", "good", ["[?, 8]"]))


def test_a_browser_is_told_to_run_and_to_load_nothing() -> None:
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', to_html(report()))
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")


@pytest.mark.parametrize(
    "href", ["javascript://%0aalert(1)", " JavaScript:alert(1)", "java\tscript:x", "data:text/html,x"]
)
def test_a_link_to_what_runs_leads_nowhere(href: str) -> None:
    assert Link("step", "report", href).href == ""


@pytest.mark.parametrize("href", ["gs://models/1", "https://x/y?a:b", "../a/b%3A1.html", "run.html#a:b"])
def test_a_link_to_a_file_stays(href: str) -> None:
    assert Link("step", "report", href).href == href
