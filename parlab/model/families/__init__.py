"""One file per toolkit whose models are read; the only files that import it."""
