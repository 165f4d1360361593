"""Kubernetes objects, as plain data: which ones a model needs. Pure; nothing here talks to a cluster."""
