"""``fit --kind head``: a draft head is taught on a frozen model."""
