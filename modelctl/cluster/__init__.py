"""Kubernetes objects, as plain data: which ones a model needs, and what they say. Only `api.py` talks to a cluster."""
