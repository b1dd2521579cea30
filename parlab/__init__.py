"""parlab: partially autoregressive decoding of hybrid CTC/attention speech recognition."""

__version__ = "0.1.0"
