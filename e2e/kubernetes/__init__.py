"""Tests that run beside clusters of two nodes and of one: `make e2e` boots them. By hand, after `make image`:

e2e/cluster/cluster run --nodes 2,1 -- .venv/bin/python -m pytest e2e/kubernetes
"""
