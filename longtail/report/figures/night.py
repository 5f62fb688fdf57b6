"""A drawing of `svg.to_file` for a dark ground: as a file of its own, or as one for both grounds."""

from __future__ import annotations

import re

NIGHT, CHALK = "#15181b", "#e6e8ea"  # ground and text of a dark page
_COLOR = re.compile(r"(?<==\")#[0-9a-f]{6}(?=\")")
_COLORED = re.compile(r" ([a-z-]+)=\"(#[0-9a-f]{6})\"")


def dark(svg: str) -> str:
    """A file of `to_file` for a dark ground: white, black and greys change places, colours stay, as do pictures. The
    colours of series are made for both grounds."""
    return _COLOR.sub(lambda match: _by_night(match[0]), svg)


def for_both(svg: str) -> str:
    """A file of `to_file` that is light or, as `dark` has it, dark as its reader wants pages to be: for a page that
    holds it as an image, where it is a document of its own and may have a style."""
    pairs = {found.groups(): _by_night(found[2]) for found in _COLORED.finditer(svg)}
    rules = (f'[{name}="{day}"]{{{name}:{night}}}' for (name, day), night in pairs.items() if night != day)
    opening, body = svg.split(">", 1)
    return f"{opening}><style>@media(prefers-color-scheme:dark){{{''.join(rules)}}}</style>{body}"


def _by_night(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    if not red == green == blue:
        return color
    ends = [(int(NIGHT[i : i + 2], 16), int(CHALK[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(chalk + (night - chalk) * red / 255):02x}" for night, chalk in ends)
