"""Floor 1: audio, manifests, text, tokenizers, batches."""
