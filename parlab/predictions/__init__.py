"""The folder of a prediction: typed records, metrics, provenance."""
