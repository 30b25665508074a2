"""The console's languages: catalogues, the choice of one, and what is worded or written by it."""
