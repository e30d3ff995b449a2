"""A small SVG drawing of boxes and arrows, readable on light and dark pages."""

import textwrap
from html import escape

_STYLE = """
    .page { fill: #ffffff; stroke: #d0d7de; } .bar { fill: #2e7da6; } .tip { fill: #5b6470; }
    .box { fill: #eaf2f8; stroke: #2e7da6; } .edge { fill: #fdf1e7; stroke: #c05a00; }
    text { fill: #1f2328; font: 12px system-ui, "Liberation Sans", sans-serif; }
    .title { font-weight: 600; font-size: 13.5px; } .head { font-weight: 600; }
    .line { fill: none; stroke: #5b6470; stroke-width: 1.3; }
    @media (prefers-color-scheme: dark) {
      .page { fill: #161b22; stroke: #30363d; } .bar { fill: #58a6d6; } .tip { fill: #9aa4af; }
      .box { fill: #1b2f3d; stroke: #58a6d6; } .edge { fill: #3a2a1c; stroke: #e08a3c; }
      text { fill: #e6edf3; } .line { stroke: #9aa4af; }
    }"""

_WIDE = 220  # pixels: an arrow meets a wider box where it is nearest, others in the middle


class Drawing:
    """Collect shapes on a page of `width` × `height` pixels, which has a background of its own."""

    def __init__(self, title: str, width: int, height: int) -> None:
        self.title, self.width, self.height = title, width, height
        self.boxes: dict[str, tuple[float, float, float, float]] = {}
        self.shapes: list[str] = []
        self.lines: list[str] = []

    def box(
        self, name: str, x: float, y: float, width: float, height: float, title: str, lines: list[str], kind: str
    ) -> str:
        """Draw a box with a title and lines of text; arrows know it by `name`, which is returned."""
        self.boxes[name] = x, y, width, height
        self.shapes.append(f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>')
        self.text(x + 9, y + 19, title, "title")
        for number, line in enumerate(lines):
            self.text(x + 9, y + 37 + 15 * number, line)
        return name

    def text(self, x: float, y: float, text: str, kind: str = "") -> None:
        """Write a line of text, which begins at x on the base line y."""
        self.shapes.append(f'<text{f" class={kind!r}" if kind else ""} x="{x:g}" y="{y:g}">{escape(text)}</text>')

    def bar(self, x: float, y: float, width: float, height: float) -> None:
        """Draw a bar."""
        self.shapes.append(f'<rect class="bar" x="{x:g}" y="{y:g}" width="{width:.1f}" height="{height:g}" rx="2"/>')

    def arrow(self, start: str, end: str, downwards: bool = False) -> None:
        """Draw an arrow between two boxes: to the right where there is room, else up or down."""
        x1, y1, w1, h1 = self.boxes[start]
        x2, y2, w2, h2 = self.boxes[end]
        if x2 >= x1 + w1 and not downwards:
            xa, ya, xb = x1 + w1, y1 + h1 / 2, x2 - 7
            yb = y2 + h2 / 2 if h2 == h1 else min(max(ya, y2 + 24), y2 + h2 - 24)  # along a tall box, straight
            bend, tip = (xb - xa) / 2, "l-8,-4 v8 z"
            path = f"M{xa:g},{ya:g} C{xa + bend:g},{ya:g} {xb - bend:g},{yb:g} {xb:g},{yb:g}"
            xb += 6
        else:
            up = y2 < y1
            xa, xb = x1 + w1 / 2, x2 + w2 / 2
            if w1 > _WIDE:
                xa = min(max(xb, x1 + 14), x1 + w1 - 14)
            if w2 > _WIDE:
                xb = min(max(xa, x2 + 14), x2 + w2 - 14)
            ya, yb = (y1, y2 + h2 + 7) if up else (y1 + h1, y2 - 7)
            bend, tip = (yb - ya) / 2, "l-4,8 h8 z" if up else "l-4,-8 h8 z"
            path = f"M{xa:g},{ya:g} C{xa:g},{ya + bend:g} {xb:g},{yb - bend:g} {xb:g},{yb:g}"
            yb += -6 if up else 6
        self.lines.append(f'<path class="line" d="{path}"/><path class="tip" d="M{xb:g},{yb:g} {tip}"/>')

    @staticmethod
    def wrapped(text: str, width: float) -> list[str]:
        """Break text into lines that fit `width` pixels, by an average width of letters."""
        return textwrap.wrap(text, int(width / 6.1))

    def svg(self) -> str:
        """Return the drawing."""
        body = "\n  ".join([*self.lines, *self.shapes])
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" role="img">\n  <title>{escape(self.title)}</title>\n'
            f"  <style>{_STYLE}\n  </style>\n"
            f'  <rect class="page" x="0.5" y="0.5" width="{self.width - 1}" height="{self.height - 1}" rx="8"/>\n'
            f"  {body}\n</svg>\n"
        )
