"""SpeechBrain's Conformer and Transformer models with CTC (Ravanelli et al. 2021), as its LibriSpeech recipe writes them."""
