"""WeNet's U2 and U2++ models (Yao et al. 2021, Wu et al. 2021), with full context."""
