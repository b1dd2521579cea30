"""What PAR fills segments in: drafts in the decoder's tokens, the search of segments, and rounds of it."""
