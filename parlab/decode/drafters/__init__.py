"""How CTC's posteriors become a draft: drafters, each a file, found by its name."""
