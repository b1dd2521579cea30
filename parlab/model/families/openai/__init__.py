"""ESPnet's ``encoder: whisper`` and ``decoder: whisper``: OpenAI's modules under OpenAI's names, for state dicts that ESPnet reads."""
