"""Text: tokenisers, normalisers, the symbols of S2T models."""
