"""Rows of a table as lines that make sense without the table."""


def table_lines(rows: list[list[str]], header: bool) -> list[str]:
    """With a header each row says what its cells are: "Plan: Basic; Price: EUR 10"."""
    filled = [row for row in rows if any(row)]
    if not header or len(filled) < 2:
        return [" | ".join(cell for cell in row if cell) for row in filled]
    names = filled[0]
    return [_named(names, row) for row in filled[1:]]


def _named(names: list[str], row: list[str]) -> str:
    cells = []
    for index, cell in enumerate(row):
        name = names[index] if index < len(names) else ""
        if cell:
            cells.append(f"{name}: {cell}" if name and name != cell else cell)
    return "; ".join(cells)
