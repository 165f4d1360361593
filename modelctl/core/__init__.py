"""The nouns, the protocols, the errors and the checksums. No I/O but the shipped data files."""
