"""One file per command, and what they share: the only place that wires rooms together."""
