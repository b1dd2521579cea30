"""FireRedASR-AED (Xu et al. 2025): an encoder and a decoder without a CTC head."""
