"""Floor 1: utterances, audio files, training examples and batches."""
