"""Where artifacts are kept: stores of blobs by digest and of tags by name."""
