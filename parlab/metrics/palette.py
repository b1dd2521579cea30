"""Colours of lines and points."""

from __future__ import annotations

# Okabe and Ito's colours, told apart by people of all colour vision.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A7A00", "#444444")
