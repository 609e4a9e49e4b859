#!/usr/bin/env python3
"""Turns a captured terminal screen into an SVG picture.

    tmux capture-pane -e -p | docs/images/terminal.py --title "hippius up" > docs/images/up.svg

Understands what `tmux capture-pane -e` writes: text and colours (SGR). Needs nothing but Python.
"""

import argparse
import re
import sys
from html import escape

WIDTH, HEIGHT, SIZE, MARGIN, BAR = 8.2, 19, 13.5, 18, 36
PAPER, BAR_COLOUR, INK, FAINT = "#12161c", "#1c222b", "#d7dde5", "#7d8896"
NORMAL = ["#3b4350", "#e5645f", "#5fc08a", "#d9b25f", "#6aa5ea", "#c08be0", "#56bfc4", "#d7dde5"]
BRIGHT = ["#7d8896", "#ff8a84", "#7fdca6", "#f0cd80", "#8fc0ff", "#d9aef5", "#7fdde0", "#ffffff"]


def colour(parameters, style):
    """Applies one SGR sequence to (colour, bold, dim)."""
    codes = [int(code or 0) for code in parameters.split(";")]
    while codes:
        code = codes.pop(0)
        if code == 0:
            style = (INK, False, False)
        elif code == 1:
            style = (style[0], True, style[2])
        elif code == 2:
            style = (style[0], style[1], True)
        elif code == 22:
            style = (style[0], False, False)
        elif 30 <= code <= 37:
            style = (NORMAL[code - 30], *style[1:])
        elif 90 <= code <= 97:
            style = (BRIGHT[code - 90], *style[1:])
        elif code == 39:
            style = (INK, *style[1:])
        elif code in (38, 48):
            kind = codes.pop(0)
            value = [codes.pop(0) for _ in range(3 if kind == 2 else 1)]
            if code == 38:
                style = (named(value), *style[1:])
    return style


def named(value):
    if len(value) == 3:
        return "#%02x%02x%02x" % tuple(value)
    if value[0] < 16:
        return (NORMAL + BRIGHT)[value[0]]
    if value[0] > 231:
        return "#%02x%02x%02x" % ((8 + 10 * (value[0] - 232),) * 3)
    level = [0, 95, 135, 175, 215, 255]
    cube = value[0] - 16
    return "#%02x%02x%02x" % (level[cube // 36], level[cube // 6 % 6], level[cube % 6])


def runs(line, style):
    """Splits a line into (column, text, style); gives back the style it ends with, too."""
    column, found = 0, []
    for place, part in enumerate(re.split(r"\x1b\[([0-9;]*)m", line)):
        if place % 2:
            style = colour(part, style)
        elif part:
            found.append((column, part, style))
            column += len(part)
    return found, style


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--title", default="")
    title = arguments.parse_args().title
    lines = sys.stdin.read().rstrip().split("\n")
    style, text, columns = (INK, False, False), [], 0
    for row, line in enumerate(lines):
        found, style = runs(line.rstrip(), style)
        y = BAR + MARGIN + row * HEIGHT + SIZE
        for column, part, (fill, bold, dim) in found:
            weight = ' font-weight="700"' if bold else ""
            faded = ' opacity=".6"' if dim else ""
            # Viewers collapse wide gaps, so what they separate is placed by itself.
            for piece in re.finditer(r"\S+(?: \S+)*", part):
                start, word = column + piece.start(), piece.group()
                columns = max(columns, start + len(word))
                text.append(
                    f'<text x="{MARGIN + start * WIDTH:.1f}" y="{y:.1f}" fill="{fill}"{weight}{faded} '
                    f'textLength="{len(word) * WIDTH:.1f}" lengthAdjust="spacingAndGlyphs">{escape(word)}</text>'
                )
    width, height = columns * WIDTH + 2 * MARGIN, BAR + 2 * MARGIN + len(lines) * HEIGHT
    print(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, \'DejaVu Sans Mono\', monospace" '
        f'font-size="{SIZE}">'
    )
    print(f'<rect width="100%" height="100%" rx="10" fill="{PAPER}"/>')
    print(f'<path d="M0 10a10 10 0 0 1 10-10h{width - 20:.0f}a10 10 0 0 1 10 10v{BAR - 10}h-{width:.0f}z" fill="{BAR_COLOUR}"/>')
    for place, fill in enumerate(("#e5645f", "#d9b25f", "#5fc08a")):
        print(f'<circle cx="{20 + 20 * place}" cy="{BAR / 2}" r="6" fill="{fill}"/>')
    print(f'<text x="{width / 2:.0f}" y="{BAR / 2 + 4.5}" fill="{FAINT}" text-anchor="middle">{escape(title)}</text>')
    print("\n".join(text))
    print("</svg>")


if __name__ == "__main__":
    main()
