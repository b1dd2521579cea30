"""Drafts that the decoder corrects in a few teacher-forced passes, before anything of them is masked."""
