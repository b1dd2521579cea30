"""What is added to the scores of texts: phrases and n-grams as automata over tokens."""
