"""The built-in templates: a first pipeline in one call, with English or Chinese texts.

Their figures are starting points from common practice, to be replaced by a team's own as soon as
its reports show them.
"""

from functools import cache

from app.domain.templates import b2b, classic, executive, software
from app.domain.templates.writing import Language, Template

__all__ = ["Language", "Template", "templates"]

_OUTLINES = (classic.OUTLINE, b2b.OUTLINE, software.OUTLINE, executive.OUTLINE)


@cache
def templates(language: Language) -> tuple[Template, ...]:
    """All of them, in that language."""
    return tuple(outline.template(language) for outline in _OUTLINES)
