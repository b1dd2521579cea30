"""Blocks that foreign families share: attention, conformer and transformer encoders, a decoder that ``RowDecoder`` reads.

Names follow ESPnet's and WeNet's, which agree.
"""
