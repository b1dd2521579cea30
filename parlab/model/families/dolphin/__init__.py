"""Dolphin (Meng et al. 2025): E-Branchformers with a CTC head, languages and regions."""
