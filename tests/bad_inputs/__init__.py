"""A list of bad inputs, and a script that runs them: ``python -m tests.bad_inputs``."""
