"""What every page of the served documentation shares: the frame, the style, the headers.

Plain HTML: no script, nothing from elsewhere, readable on a phone, in the dark, by a screen reader
and on a machine without a network.
"""

from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import Final

_STYLE: Final = """
:root { color-scheme: light dark; --ink: light-dark(#1c2330, #dfe5ef);
  --dim: light-dark(#5b6577, #93a0b5); --paper: light-dark(#fff, #12161d);
  --panel: light-dark(#f4f6f9, #1b212b); --line: light-dark(#dde2ea, #2c3442);
  --link: light-dark(#0b5cad, #7db8f5); --get: light-dark(#0b6b3a, #5fd39b);
  --write: light-dark(#8a4b00, #f0b35f); --delete: light-dark(#a3182b, #ff8795); }
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.55 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
nav { padding: 1rem; background: var(--panel); border-bottom: 1px solid var(--line); }
nav ul { list-style: none; margin: 0; padding: 0; columns: 2; } nav b { display: block; }
main { padding: 1rem; max-width: 60rem; }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); text-transform: capitalize; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
.guide h2 { text-transform: none; } .guide h3 { font-size: 1.1rem; }
.guide { line-height: 1.65; } .guide td { overflow-wrap: anywhere; min-width: 7rem; }
.guide :not(pre) > code { background: var(--panel); padding: .1em .3em; border-radius: 4px; }
.guide pre { background: var(--panel); } [aria-current] { font-weight: 700; }
.skip { position: absolute; left: -99rem; top: .3rem; padding: .3rem .6rem;
  background: var(--paper); } .skip:focus { left: .5rem; z-index: 1; }
details { margin: .6rem 0; padding: .5rem .8rem; border: 1px solid var(--line);
  border-radius: 8px; background: var(--panel); overflow-wrap: anywhere; }
summary { cursor: pointer; } summary small { color: var(--dim); margin-left: .5rem; }
code, pre { font: .86em/1.5 ui-monospace, monospace; }
pre { padding: .7rem; border-radius: 6px; background: var(--paper); overflow-x: auto;
  border: 1px solid var(--line); }
.table { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0;
  border-bottom: 1px solid var(--line); }
th { color: var(--dim); font-weight: 600; } td p, summary p { margin: 0; }
.method { display: inline-block; min-width: 4.2em; font-weight: 700; color: var(--write); }
.get { color: var(--get); } .delete { color: var(--delete); } .dim { color: var(--dim); }
:target { outline: 2px solid var(--link); outline-offset: 3px; scroll-margin-top: 4rem; }
@media (min-width: 64rem) { body { display: grid; grid-template-columns: 19rem minmax(0, 1fr); }
  nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; border-right: 1px solid
  var(--line); border-bottom: 0; } nav ul { columns: 1; } main { padding: 1rem 2.5rem 4rem; } }
"""
_STYLE_HASH: Final = b64encode(sha256(_STYLE.encode()).digest()).decode()
HEADERS: Final = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}


def page(
    title: str, navigation: str, content: str, *, language: str = "en", kind: str = "reference"
) -> str:
    """A whole page: its title is text, what is to stand beside and below it is HTML."""
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        '<body><a class="skip" href="#content">To the content</a>'
        f'<nav aria-label="Documentation">{navigation}</nav>'
        f'<main id="content" class="{kind}">{content}</main></body></html>'
    )
