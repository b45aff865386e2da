"""Reports: the verdict first, nothing from outside, the same bytes each time, and text that cannot turn into markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from tpu2gpu.reporting.numbers import milliseconds, percent, ratio, significant, size
from tpu2gpu.reporting.plots import batch_sweep, latency_boxes, latency_ecdf, ratio_intervals
from tpu2gpu.reporting.report import Drawing, Facts, Figures, Report, Row, Table, to_html, to_markdown

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
    assert percent(0.98765) == "98.77 %"
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
