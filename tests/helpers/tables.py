"""Tables as the commands print them."""


def table_rows(text: str) -> list[list[str]]:
    """The cells of all lines of Markdown tables in *text*."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
