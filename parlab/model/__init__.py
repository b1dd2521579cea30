"""Floor 2: hybrid CTC/attention models, row-wise decoding, losses, folders."""
