"""What can go wrong in channels: one root class."""


class ChannelError(Exception):
    """A message could not be made, or a provider could not be set up; the text never holds an address."""


class RenderError(ChannelError):
    """A template could not be turned into a message: which template, which line, and why."""

    def __init__(self, template: str, line: int | None, message: str) -> None:
        """Name the template file (relative to its folder), the line in it (None: unknown) and the reason."""
        self.template = template
        self.line = line
        self.message = message
        super().__init__(template, line, message)

    def __str__(self) -> str:
        """`email/winback.html.j2:14: reason`."""
        place = self.template if self.line is None else f"{self.template}:{self.line}"
        return f"{place}: {self.message}"
