"""What a model becomes: which file goes into which layer, its bytes, its table, config and manifest."""
