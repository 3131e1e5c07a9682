"""A report's HTML as its tests read it."""

from html.parser import HTMLParser

WITHOUT_END = {"br", "link", "meta"}


class Page(HTMLParser):
    """Tags, attributes and the text of each section; asserts that every element is closed where it should be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.sections: list[str] = [""]
        self.struck = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attributes}))
        if tag == "section":
            self.sections.append("")
        if tag not in WITHOUT_END:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attributes}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag in ("td", "th"):
            self.sections[-1] += " "

    def handle_data(self, text: str) -> None:
        if "style" in self.open:
            return
        self.sections[-1] += text
        if "s" in self.open:
            self.struck += f"{text}\n"

    @property
    def text(self) -> str:
        return "\n".join(self.sections)

    def section(self, heading: str) -> str:
        return next(s for s in self.sections if s.strip().startswith(heading))

    def having(self, name: str) -> list[str]:
        """The values of an attribute, over the whole page."""
        return [attributes[name] for _, attributes in self.tags if name in attributes]

    def classed(self, tag: str, name: str) -> list[dict[str, str]]:
        return [a for t, a in self.tags if t == tag and name in a.get("class", "").split()]
