"""How sure a draft token is: measures, each a file of ``measures``, found by its name."""
