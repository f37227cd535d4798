"""A project of one's own: `tempo new` writes it from the files in template/. What it trains is not here."""
