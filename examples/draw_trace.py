#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws what GREEN_TRACE=FILE has written, as an SVG picture.

    draw_trace.py FILE [FIRST LAST] >PICTURE.svg

A row for each green, a bar for each time that it ran, an arrow for each switch,
dashed if an error went with it.  The number in a bar is how long it ran, in
microseconds; its width is that too, between a least and a most.  FIRST and LAST
are the runs to show, counted from 1.  A file of one thread only.
"""
import json
import sys
from xml.sax.saxutils import escape

LEFT, TOP, ROW, BAR = 90, 32, 58, 26
NARROW, WIDE = 44, 120
COLOURS = ["#6b7785", "#2b7bba", "#2e9e5b", "#c0554b", "#8e5bb0", "#c9822b"]


def runs_of(path):
    """The names of the greens by tid, and (tid, begin, end, whether thrown at) of each run."""
    names, runs = {}, []
    with open(path, encoding="utf-8") as file:
        for event in json.load(file):
            if event["ph"] == "M" and event["name"] == "thread_name":
                names[event["tid"]] = event["args"]["name"]
            elif event["ph"] == "B":
                tid, begin, thrown = event["tid"], event["ts"], False
            elif event["ph"] == "f":
                thrown = event["name"] == "throw"
            elif event["ph"] == "E":
                runs.append((tid, begin, event["ts"], thrown))
    return names, runs


def picture(names, runs):
    rows = {tid: row for row, tid in enumerate(sorted({run[0] for run in runs}))}
    usual = sorted(end - begin for _, begin, end, _ in runs)[len(runs) // 2]
    bars, arrows, x, before = [], [], LEFT, None
    for tid, begin, end, thrown in runs:
        y = TOP + ROW * rows[tid]
        width = min(max(60 * (end - begin) / usual, NARROW), WIDE)
        colour = COLOURS[rows[tid] % len(COLOURS)]
        bars.append(f'<rect x="{x:.0f}" y="{y}" width="{width:.0f}" height="{BAR}" rx="3" fill="{colour}"/>'
                    f'<text x="{x + width / 2:.0f}" y="{y + 17}" fill="#fff" font-size="11" '
                    f'text-anchor="middle">{end - begin:.1f}</text>')
        if before is not None:
            here, there = (before + BAR, y - 1) if y > before else (before, y + BAR + 1)
            dashes = ' stroke-dasharray="4 3"' if thrown else ""
            arrows.append(f'<path d="M{x - 4:.0f} {here} L{x + 4:.0f} {there}"{dashes} marker-end="url(#head)"/>')
        x, before = x + width, y

    width, height = x + 16, TOP + ROW * (len(rows) - 1) + BAR + 14
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
           f'height="{height}" font-family="sans-serif" font-size="13">')
    yield ('<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
           'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#333"/></marker></defs>')
    yield f'<rect width="{width:.0f}" height="{height}" fill="#fff"/>'
    yield f'<text x="{LEFT}" y="18" fill="#666">who ran when, and for how many microseconds</text>'
    for tid, row in rows.items():
        y = TOP + ROW * row + BAR // 2
        yield f'<path d="M{LEFT} {y} H{x:.0f}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 10}" y="{y + 5}" text-anchor="end" fill="#222">{escape(names[tid])}</text>'
    yield from bars
    yield '<g stroke="#333" stroke-width="1.5">'
    yield from arrows
    yield "</g>"
    yield "</svg>"


def main(path, first=1, last=None):
    names, runs = runs_of(path)
    print("\n".join(picture(names, runs[int(first) - 1:last and int(last)])))


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)
        sys.exit()
    if len(sys.argv) not in (2, 4):
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except OSError as error:
        sys.exit(f"draw_trace.py: {error}")
