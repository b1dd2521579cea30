"""From waveforms to hypotheses."""
