"""Other libraries for search: they drive our spaces and evaluators, each in one file that imports them."""
