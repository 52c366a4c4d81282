"""The inspector: a page, and a terminal, that show a server live."""
