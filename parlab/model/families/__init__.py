"""The toolkits whose models are read. For each: a file that alone imports it, one that builds models, one for folders."""
