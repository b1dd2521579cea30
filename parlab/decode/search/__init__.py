"""What a beam search is made of: groups and options, rules, and a search in fixed shapes for accelerators."""
