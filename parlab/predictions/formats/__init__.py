"""Texts of predictions in the formats of other tools: SCTK's trn, ctm and stm, Kaldi's text, the Open ASR Leaderboard's manifests."""
