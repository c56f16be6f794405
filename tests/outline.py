"""A page of HTML, as tests look at it."""

from collections import Counter
from html.parser import HTMLParser


class Outline(HTMLParser):
    """The ids and links of a page, and a check that its tags are closed in their order."""

    VOID = frozenset({"meta", "br", "hr"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.feed(page)
        assert self.open == []

    @property
    def tags(self) -> set[str]:
        return set(self.counts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.counts[tag] += 1
        if given.get("id"):
            self.ids.append(str(given["id"]))
        self.links |= {str(given[name]) for name in ("href", "src") if name in given}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
