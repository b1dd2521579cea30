"""The speech synthesiser: sentences of a grammar, spoken by eSpeak NG."""
