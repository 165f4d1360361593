"""Ship model weights as OCI artifacts, and load them at the speed of the node's memory."""

__version__ = "0.1.0"
